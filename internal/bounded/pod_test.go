package bounded

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/spark"
)

var everything = Reading{
	Annotation: func(spark.Role, string, string) (string, bool) { return "", false },
	Message:    func(_ spark.Role, text string) string { return text },
}

// Little is kept of any pod that a user makes. Bounding the result again changes
// nothing.
func TestLittleIsKept(t *testing.T) {
	for _, role := range []spark.Role{spark.Driver, spark.Executor, "other"} {
		for _, spec := range []string{"", "spark-3.5.9/driver", "spark-4.1.4-template/executor"} {
			p := generate.Bloated(role, spark.DriverContainer)
			if spec != "" {
				p.Spec = decode(spec).Spec
			}
			kept := everything.Pod(p)
			if text, _ := json.Marshal(kept); len(text) > 125<<10 {
				t.Errorf("%s with the spec of %q: %d bytes are kept", role, spec, len(text))
			}
			if d := cmp.Diff(kept, everything.Pod(kept)); d != "" {
				t.Errorf("%s with the spec of %q: keeping again changes it:\n%s", role, spec, d)
			}
		}
	}
}

// A driver that waits for a node: this is the cost of thousands.
func TestLittleIsKeptOfWhatWaits(t *testing.T) {
	p := decode("spark-3.5.9/driver")
	p.Status = corev1.PodStatus{Phase: corev1.PodPending}
	for i := range 64 {
		key := fmt.Sprintf("%s%02d.example.com/%s", strings.Repeat("spark.", 35), i, strings.Repeat("k", 60))
		p.Labels[key] = strings.Repeat("v", 63)
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{Name: strings.Repeat("n", 2000), UID: types.UID(strings.Repeat("u", 2000)), Kind: strings.Repeat("k", 2000)})
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("OPTIONS_", i), Value: "OutOfMemoryError" + strings.Repeat("o", 2000)})
	}
	if text, _ := json.Marshal(everything.Pod(p)); len(text) > 16<<10 {
		t.Errorf("%d bytes are kept", len(text))
	}
}

func decode(review string) *corev1.Pod {
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named(review).Object(), p); err != nil {
		panic(err)
	}
	return p
}

// Package spark says the same about a captured pod and about what is kept of it.
func TestSparkReadsTheSame(t *testing.T) {
	for _, review := range captured.Reviews() {
		if review.Kind() != "Pod" {
			continue
		}
		whole, err := spark.PodOf(decode(review.Name))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := spark.PodOf(everything.Pod(whole.Pod))
		if err != nil {
			t.Fatal(review.Name, err)
		}
		say := func(p spark.Pod) string {
			driver, _ := p.Driver()
			id, _ := p.ExecutorID()
			port, _ := p.Port(spark.UIPort)
			application, literal := p.Env("SPARK_APPLICATION_ID")
			return fmt.Sprintln(p.Role, p.Container().Name, p.Memory(), p.Language(), p.MainClass(), p.Version(), p.Application(), driver, id,
				p.Cores(), p.ResourceProfile(), p.Submitter(), p.ConfigMap(), p.Restarts(), port, application, literal)
		}
		if d := cmp.Diff(say(whole), say(kept)); d != "" {
			t.Errorf("%s (-whole +kept):\n%s", review.Name, d)
		}
	}
}

// If there are too many labels, those stay that Spark and its submitters write; of too
// many owners, the one that controls the pod.
func TestWhatIsReadStays(t *testing.T) {
	p := decode("spark-3.5.9/driver")
	for i := range 100 {
		p.Labels[fmt.Sprintf("a-%d", i)] = "x"
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{Name: strconv.Itoa(i), Controller: new(i == 99)})
	}
	p.Labels["kyuubi-unique-tag"] = "tag"
	kept := everything.Pod(p)
	for _, label := range []string{spark.RoleLabel, spark.ApplicationLabel, spark.VersionLabel, "kyuubi-unique-tag"} {
		if kept.Labels[label] == "" || len(kept.Labels) != maxLabels {
			t.Errorf("of %d labels %s is not kept", len(kept.Labels), label)
		}
	}
	if owner := metav1.GetControllerOf(kept); owner == nil || owner.Name != "99" || len(kept.OwnerReferences) != maxOwners {
		t.Errorf("%d owners, controlled by %v", len(kept.OwnerReferences), owner)
	}
}

// Arguments of the program may be secrets. The last variable of a name counts. An
// option far inside a long variable is kept.
func TestContainer(t *testing.T) {
	p := decode("spark-3.5.9/driver")
	c := &p.Spec.Containers[0]
	c.Args = []string{"driver", "--conf", "spark.secret=x", "--conf", "spark.driver.memory=2g", "--driver-memory", "3g", "--class", "com.acme.Main", "app.jar", "--class", "secret", "--password", "x"}
	c.Env = []corev1.EnvVar{
		{Name: "SPARK_APPLICATION_ID", Value: "first"}, {Name: "SECRET", Value: "x"},
		{Name: "SPARK_DRIVER_BIND_ADDRESS", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "x"}}},
		{Name: "SPARK_APPLICATION_ID", Value: "last"},
		{Name: "JAVA_TOOL_OPTIONS", Value: strings.Repeat("y", 5000) + " -XX:OnOutOfMemoryError=kill " + strings.Repeat("z", 5000)},
	}
	kept := everything.Pod(p).Spec.Containers[0]
	if d := cmp.Diff([]string{"driver", "--class", "com.acme.Main", "--driver-memory", "3g"}, kept.Args); d != "" {
		t.Error(d)
	}
	if len(kept.Env) != 3 || kept.Env[0].Name != "SPARK_DRIVER_BIND_ADDRESS" || kept.Env[0].ValueFrom == nil || kept.Env[0].ValueFrom.SecretKeyRef != nil || kept.Env[1].Value != "last" {
		t.Errorf("%+v", kept.Env)
	}
	if option := kept.Env[2].Value; len(option) > maxText || !strings.Contains(option, "-XX:OnOutOfMemoryError=kill") {
		t.Error(option)
	}
}
