package recording

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
)

func events(t *testing.T, namespace, reason string) (found []eventsv1.Event) {
	t.Helper()
	for _, e := range must(kubelet.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{}))(t).Items {
		if e.Reason == reason {
			found = append(found, e)
		}
	}
	return found
}

// reported returns the reasons of the recorder's Events on a pod.
func reported(t *testing.T, on *corev1.Pod) string {
	t.Helper()
	var reasons []string
	for _, e := range must(kubelet.EventsV1().Events(on.Namespace).List(t.Context(), metav1.ListOptions{}))(t).Items {
		if e.Regarding.UID == on.UID && e.ReportingController == "spark-vitals.io/recorder" {
			reasons = append(reasons, e.Reason)
		}
	}
	return strings.Join(reasons, " ")
}

// An executor dies and its pod is deleted at once; then its driver dies. The driver's
// annotations record both deaths, each death has an Event and is counted, and the
// recorder's rights suffice.
func TestDeaths(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	r := start(t)
	d := driver(t, namespace, "etl")
	remove(t, die(t, executor(t, d, 7), "OOMKilled", 137))
	counted(t, d, oom.OOMKilled, 1)
	if p := live(t, d); p.Annotations[annotations.State] != "" || p.Annotations[annotations.Reason] != "ExecutorOOMKilled" || condition(t, d) != nil {
		t.Errorf("while the driver runs: %v, %+v", p.Annotations, p.Status.Conditions)
	}
	die(t, d, "OOMKilled", 137)
	eventually.True(t, "the driver's own death", func() bool { return live(t, d).Annotations[annotations.State] != "" })
	p := live(t, d)
	if p.Annotations[annotations.State] != "KILLED" || p.Annotations[annotations.Reason] != "DriverOOMKilled" || !strings.Contains(p.Annotations[annotations.Message], "spark.driver.memoryOverhead") {
		t.Errorf("%v", p.Annotations)
	}
	if c := condition(t, d); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "DriverOOMKilled" || c.Message != p.Annotations[annotations.Message] {
		t.Errorf("the condition is %+v", c)
	}
	eventually.True(t, "two Events", func() bool {
		return len(events(t, namespace, "ExecutorOOMKilled")) == 1 && len(events(t, namespace, "DriverOOMKilled")) == 1
	})
	e := events(t, namespace, "ExecutorOOMKilled")[0]
	if e.Regarding.UID != d.UID || e.Related == nil || e.Related.Name != "etl-exec-7" || !strings.Contains(e.Note, "Executor 7 was killed by the kernel") {
		t.Errorf("%+v", e)
	}
	eventually.True(t, "metrics", func() bool { return metric(t, r, "spark_vitals_deaths_total", `namespace="`+namespace+`"`) == 2 })
	if n := metric(t, r, "spark_vitals_recorder_errors_total", ""); n != 0 {
		t.Errorf("%v calls failed", n)
	}
}

// The condition is written with the record, keeps beside the kubelet's conditions while
// the kubelet updates its own, and is corrected with the record. Two recorders write it
// once.
func TestCondition(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	start(t)
	start(t)
	d := driver(t, namespace, "etl")
	write := func(text string) {
		t.Helper()
		must(kubelet.CoreV1().Pods(namespace).Patch(t.Context(), d.Name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, "status"))(t)
	}
	write(`{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True"}]}}`)
	changes := must(kubelet.CoreV1().Pods(namespace).Watch(t.Context(), metav1.SingleObject(live(t, d).ObjectMeta)))(t)
	defer changes.Stop()
	die(t, d, "Error", 137)
	eventually.True(t, "the condition", func() bool { return condition(t, d) != nil })
	if c := condition(t, d); c.Reason != "DriverKilled" {
		t.Errorf("%+v", c)
	}
	write(`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"PodFailed"}]}}`)
	if condition(t, d) == nil {
		t.Error("the kubelet's next write has removed the condition")
	}
	die(t, d, "OOMKilled", 137)
	eventually.True(t, "a better word", func() bool { return condition(t, d).Reason == "DriverOOMKilled" })
	p := live(t, d)
	if p.Annotations[annotations.Reason] != "DriverOOMKilled" {
		t.Errorf("%v", p.Annotations)
	}
	var kubelets []corev1.PodCondition
	for _, c := range p.Status.Conditions {
		if c.Type != annotations.DeathCondition {
			kubelets = append(kubelets, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason})
		}
	}
	want := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "PodFailed"}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	if d := cmp.Diff(want, kubelets); d != "" {
		t.Errorf("the kubelet's conditions (-want +got):\n%s", d)
	}
	writes, previous := 0, ""
	for change := range changes.ResultChan() {
		p := change.Object.(*corev1.Pod)
		if reason := p.Annotations[annotations.Reason]; reason != previous {
			writes, previous = writes+1, reason
			if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == annotations.DeathCondition && c.Reason == reason }) {
				t.Errorf("the record came without the condition: %+v", p.Status.Conditions)
			}
		}
		if previous == "DriverOOMKilled" {
			break
		}
	}
	if writes != 2 {
		t.Errorf("the record was written %d times", writes)
	}
}

// In a namespace that did not opt in, the recorder writes nothing, unless it runs with
// --everywhere.
func TestNamespaces(t *testing.T) {
	enabled, other := newNamespace(t, "audit"), "other"
	if err := controlPlane.Namespace(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	r := start(t)
	in, out := driver(t, enabled, "in"), driver(t, other, "out")
	die(t, out, "OOMKilled", 137)
	die(t, in, "OOMKilled", 137)
	eventually.True(t, "the opted-in one", func() bool { return live(t, in).Annotations[annotations.State] != "" })
	if p := live(t, out); p.Annotations[annotations.State] != "" {
		t.Errorf("recorded where nobody opted in: %v", p.Annotations)
	}
	r.Stop()
	start(t, "--everywhere")
	eventually.True(t, "all of them", func() bool { return live(t, out).Annotations[annotations.State] != "" })
}

// The kubelet corrects a status: an exit with 137 and no reason was an OOM.
func TestCorrection(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	start(t)
	d := driver(t, namespace, "etl")
	e := executor(t, d, 1)
	die(t, e, "Error", 137)
	counted(t, d, oom.Killed, 1)
	die(t, e, "OOMKilled", 137)
	counted(t, d, oom.OOMKilled, 1)
	counted(t, d, oom.Killed, 0)
}

// A driver with a liveness probe exits with 137. The kubelet's Event about Spark's
// container decides the cause, even if the API server at first refuses to list Events.
func TestHung(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	proxy.calm.Store(true)
	var asked sync.Map
	proxy.refuses = func(r *http.Request) bool {
		_, before := asked.LoadOrStore(r.URL.Query().Get("fieldSelector"), true)
		return !before && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/events")
	}
	startWith(t, through)
	for name, container := range map[string]string{"frozen": "spark-kubernetes-driver", "sidecar": "proxy", "killed": ""} {
		p := driver(t, namespace, name)
		remove(t, p)
		p.ResourceVersion, p.UID, p.Status = "", "", corev1.PodStatus{}
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}, PeriodSeconds: 30, FailureThreshold: 20}
		p = must(kubelet.CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{}))(t)
		if container != "" {
			killing := &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, GenerateName: "killing-"},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name, UID: p.UID, FieldPath: "spec.containers{" + container + "}"},
				Reason:         "Killing", Message: "Stopping container " + container, LastTimestamp: metav1.Now(), Type: "Normal",
			}
			must(kubelet.CoreV1().Events(namespace).Create(t.Context(), killing, metav1.CreateOptions{}))(t)
		}
		die(t, p, "Error", 137)
		want := map[bool]string{true: "DriverHung", false: "DriverKilled"}[name == "frozen"]
		// it is Killed until the Event is known, and reported then
		eventually.True(t, want, func() bool { return reported(t, p) != "" })
		if got := reported(t, p); got != want {
			t.Errorf("%s: reported as %s", name, got)
		}
		if got := live(t, p).Annotations; got[annotations.Reason] != want {
			t.Errorf("%s: %v", name, got)
		}
		remove(t, p)
	}
}
