package patches

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// blockManagerPort gives an executor's block manager a real port, and declares it.
// Spark declares 7079 and listens on a random port, so nothing outside can see whether
// a driver has accepted an executor. The patch does what Spark does for a port that
// the user chose: it adds a variable SPARK_JAVA_OPT_n, which every entrypoint of
// Spark's collects.
//
// The port is derived from the application's id. With one port for all, a late request
// to a pod's IP that another application now has would be answered: Spark's block
// server does not check who asks.
//
// It leaves the pod alone if
//   - the user chose a port, even 0 for a random one;
//   - the container has a command of its own, which need not collect the variables;
//   - the pod uses the host's network or host ports: the port may be taken.
func blockManagerPort(p *Pod, c policy.Choice) {
	const field = "blockManagerPort"
	if c.Rule.BlockManagerPort == nil || p.Role != spark.Executor {
		return
	}
	declared := p.PortIndex(spark.BlockManagerPort)
	port, free := p.applicationPort(c.Rule.BlockManagerPort)
	chosen, known := p.BlockManager()
	switch {
	case p.Spec.HostNetwork || declared >= 0 && p.Container().Ports[declared].HostPort != 0:
		p.leave(field, "a port of the host may be taken by another")
	case known && declared >= 0 && chosen == p.Container().Ports[declared].ContainerPort && p.isOurs(chosen, port, c.Rule.BlockManagerPort):
		p.did(field, portReason(chosen))
	case p.mentions(spark.BlockManagerOption):
		p.leave(field, "the user's own")
	case p.Application() == "":
		p.leave(field, "the pod has no label "+spark.ApplicationLabel)
	case declared < 0:
		p.leave(field, "the container declares no port "+spark.BlockManagerPort)
	case len(p.Container().Command) > 0:
		p.leave(field, "the container has a command of its own")
	case !free:
		p.leave(field, "other containers of the pod declare all ports of the range")
	default:
		p.addEnv(p.nextJavaOption(), spark.BlockManagerOption+strconv.Itoa(int(port)))
		p.setPort(declared, port)
		p.wouldUse = port
		p.did(field, portReason(port))
	}
}

// isOurs reports whether an earlier round set a port: it is the one that is due, or
// the one that was due before another webhook added a container that declares it.
func (p *Pod) isOurs(chosen, due int32, within *policy.PortRange) bool {
	return chosen == due || p.wasSet("blockManagerPort") && within.Contains(chosen)
}

func portReason(port int32) string {
	return fmt.Sprintf("executors of this application listen on %d, open when the driver has accepted them", port)
}

// applicationPort returns the port of the pod's application in the range. It is the
// same on all its executors, and skips ports that the pod declares for others.
func (p *Pod) applicationPort(within *policy.PortRange) (port int32, free bool) {
	size, others := int(within.To-within.From)+1, p.declaredByOthers()
	start := hash(p.Application())
	for i := range size {
		port := within.From + int32((start+i)%size)
		if !others[port] {
			return port, true
		}
	}
	return 0, false
}

// hash makes a number of an application's id. It only adds and multiplies, because the
// language of a MutatingAdmissionPolicy has no more: package compile says the same in CEL.
// A text that is longer than a label's value can be is 0: the API server refuses it only
// later.
func hash(application string) (sum int) {
	const letters = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz" // of a label's value
	if len(application) > validation.LabelValueMaxLength {
		return 0
	}
	for i, letter := range []rune(application) {
		place := i + 1
		sum += (strings.IndexRune(letters, letter) + 1) * place * place * place
	}
	return sum % 65521
}

// declaredByOthers returns all ports of the pod but its block manager's.
func (p *Pod) declaredByOthers() map[int32]bool {
	all := map[int32]bool{}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if &containers[i] != p.Container() || port.Name != spark.BlockManagerPort {
					all[port.ContainerPort] = true
				}
			}
		}
	}
	return all
}

// mentions reports whether any variable of the container has the text: options come in
// SPARK_JAVA_OPT_n, JDK_JAVA_OPTIONS and in other ways.
func (p *Pod) mentions(option string) bool {
	for _, e := range p.Container().Env {
		if strings.Contains(e.Value, option) {
			return true
		}
	}
	return false
}

// nextJavaOption returns a name that no variable has. Spark numbers them from 0, and
// does not keep them in order.
func (p *Pod) nextJavaOption() string {
	next := 0
	for _, e := range p.Container().Env {
		number, ours := strings.CutPrefix(e.Name, spark.JavaOptionEnvPrefix)
		if n, err := strconv.Atoi(number); ours && err == nil && n >= next && n < 1<<20 {
			next = n + 1
		}
	}
	return spark.JavaOptionEnvPrefix + strconv.Itoa(next)
}
