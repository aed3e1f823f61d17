package stories

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// With cgroup v2 the kernel kills the whole container if a process uses too much
// memory, unless the kubelet is configured to let it kill one process. Spark does not
// run here, but a small program in its pods; see command grow.
func TestCgroup2(t *testing.T) {
	s := story{
		name: "cgroup-v2", why: "containers over their limit on a node with cgroup v2",
		versions: []string{"group", "single"}, host: true, // not of Spark: of the kill
	}
	s.run(t, func(t *testing.T, kill string) {
		node := s.name + "-" + kill
		stop, err := theLab.StartVM(t.Context(), cluster.VM{Name: node, SingleProcessOOMKill: kill == "single"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		r := &run{with: true, App: lab.App{Namespace: node, Version: kill}}
		r.begin(t, map[string]string{annotations.Inject: "audit"}) // recorded, and as they are
		var all []string
		for _, g := range grown {
			got, want := g.run(t, r, node), map[string]string{"group": g.group, "single": g.single}[kill]
			if got != want {
				t.Errorf("%s: %s, want %s", g.name, got, want)
			}
			all = append(all, g.name+": "+got)
		}
		theTable.add(t, s.name, r, strings.Join(all, "; "))
	})
}

// growth is a container in which a process exceeds the memory limit, the reason and
// exit code that the kubelet reports, and the cause that the recorder writes.
type growth struct {
	name          string
	role          spark.Role
	args          []string // of command grow
	group, single string
}

const whole = "OOMKilled 137 OOMKilled"

var grown = []growth{
	{"driver-child", spark.Driver, []string{"137"}, whole, whole}, // PySpark's driver ends as its Python did
	{"parent", spark.Executor, nil, whole, whole},
	{"child", spark.Executor, []string{"0"}, whole, "OOMKilled 0 ChildOOMKilled"},
	{"child-stopped", spark.Executor, []string{"143"}, whole, "OOMKilled 143 ChildOOMKilled"},
}

// run runs it on a node and returns what was reported.
func (g growth) run(t *testing.T, r *run, node string) (said string) {
	t.Helper()
	driver := sparkPod(t, g.name+"-driver", spark.Driver)
	victim := driver
	if g.role == spark.Executor {
		driver.Spec.Containers[0].Image = cluster.PauseImage
		driver = r.create(t, driver)
		victim = sparkPod(t, g.name, spark.Executor)
		victim.Labels[spark.ApplicationLabel] = driver.Labels[spark.ApplicationLabel]
		victim.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(driver, corev1.SchemeGroupVersion.WithKind("Pod"))}
	}
	victim.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	victim.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} // also of a node that is too busy to be ready
	victim.Spec.HostNetwork = true
	victim.Spec.Containers[0].Args = g.args
	r.create(t, victim)
	r.until(t, g.name+" has ended and is recorded", func(h *lab.History) bool {
		i := slices.IndexFunc(h.Pods(spark.Driver), named(driver.Name))
		j := slices.IndexFunc(h.Pods(g.role), named(victim.Name))
		if i < 0 || j < 0 {
			return false
		}
		record, _ := oom.Read(h.Pods(spark.Driver)[i].Last.Annotations)
		pod := h.Pods(g.role)[j]
		if phase := pod.Last.Status.Phase; len(record.Deaths) == 0 || phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			return false
		}
		said = fmt.Sprintf("%s %d %s", pod.Terminated().Reason, pod.Terminated().ExitCode, record.Deaths[0].Cause)
		return true
	})
	return said
}

func named(name string) func(*lab.PodHistory) bool {
	return func(p *lab.PodHistory) bool { return p.Last.Name == name }
}

// sparkPod returns a captured pod of its own application, which runs command grow and
// lacks what only Spark needs.
func sparkPod(t *testing.T, name string, role spark.Role) *corev1.Pod {
	t.Helper()
	pod, err := cluster.CapturedPod(captured.Named("spark-3.5.9/"+string(role)), "")
	if err != nil {
		t.Fatal(err)
	}
	pod.Name, pod.Labels[spark.ApplicationLabel] = name, "spark-"+name
	pod.Spec.Volumes, pod.Spec.AutomountServiceAccountToken = nil, new(bool)
	container := &pod.Spec.Containers[0]
	container.Image, container.Args, container.VolumeMounts, container.Ports = lab.GrowImage, nil, nil, nil
	return pod
}

func (r *run) create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := theLab.Client.CoreV1().Pods(r.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}
