package patches

import (
	"fmt"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Pod is a pod of Spark's while it is patched: the pod as it is so far, and the
// operations that made it so.
type Pod struct {
	spark.Pod
	annotated
	report
	audit bool // record no operation on the spec
	// earlier is the stamp of an earlier round. Anyone can write it, so it only
	// decides the wording: whether a probe is the user's own, or was injected and
	// changed by another webhook since.
	earlier annotations.Stamp
	// effective is the pod that will run: in audit the one that the user made,
	// otherwise this one.
	effective spark.Pod
}

// wasSet reports whether an earlier round set the field.
func (p *Pod) wasSet(field string) bool {
	return p.earlier.HasSet(field) || p.earlier.Left[field] == annotations.ChangedByAnother
}

func (p *Pod) containerPath(field string) string {
	return fmt.Sprintf("/spec/containers/%d/%s", p.Index, field)
}

// add records an operation on the spec. In a JSON patch, adding a member that exists
// replaces it.
func (p *Pod) add(path string, value any) {
	if !p.audit {
		p.operations = append(p.operations, jsonpatch.NewOperation("add", path, value))
	}
}

// remove records the removal of a member of the spec, which exists.
func (p *Pod) remove(path string) {
	if !p.audit {
		p.operations = append(p.operations, jsonpatch.NewOperation("remove", path, nil))
	}
}

// setProbe sets a probe of Spark's container.
func (p *Pod) setProbe(name policy.ProbeName, probe *corev1.Probe) {
	*name.Of(p.Container()) = probe
	p.add(p.containerPath(name.Field()), probe)
}

// addEnv appends a variable to Spark's container.
func (p *Pod) addEnv(name, value string) {
	c := p.Container()
	variable := corev1.EnvVar{Name: name, Value: value}
	if c.Env == nil {
		p.add(p.containerPath("env"), []corev1.EnvVar{variable})
	} else {
		p.add(p.containerPath("env/-"), variable)
	}
	c.Env = append(c.Env[:len(c.Env):len(c.Env)], variable)
}

// setEnv sets the value of the i-th variable of Spark's container.
func (p *Pod) setEnv(i int, value string) {
	p.Container().Env[i].Value = value
	p.add(p.containerPath(fmt.Sprintf("env/%d/value", i)), value)
}

// setMemoryLimit sets the memory limit of Spark's container, which has one.
func (p *Pod) setMemoryLimit(to resource.Quantity) {
	p.Container().Resources.Limits[corev1.ResourceMemory] = to
	p.add(p.containerPath("resources/limits/memory"), to)
}

// setPort sets the number of the i-th port of Spark's container.
func (p *Pod) setPort(i int, number int32) {
	p.Container().Ports[i].ContainerPort = number
	p.add(p.containerPath(fmt.Sprintf("ports/%d/containerPort", i)), number)
}

// setTerminationMessagePolicy sets the policy of Spark's container.
func (p *Pod) setTerminationMessagePolicy(to corev1.TerminationMessagePolicy) {
	p.Container().TerminationMessagePolicy = to
	p.add(p.containerPath("terminationMessagePolicy"), to)
}

// pointer escapes a key for a JSON pointer (RFC 6901).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")
