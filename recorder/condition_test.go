package recorder

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubetesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// patches that were asked for on pods.
func (s *site) patches() (all []kubetesting.PatchAction) {
	for _, a := range s.Actions() {
		if p, ok := a.(kubetesting.PatchAction); ok && a.GetResource().Resource == "pods" {
			all = append(all, p)
		}
	}
	return all
}

// The condition says what the annotations say, comes with them in one patch, and
// the kubelet's conditions stay. What stands is not written again.
func TestCondition(t *testing.T) {
	p := dead(t, "OOMKilled")
	others := p.Status.DeepCopy().Conditions
	if len(others) == 0 {
		t.Fatal("the kubelet gave the pod no conditions")
	}
	s := recording(t, p)
	for range 2 {
		if err := s.work(t); err != nil {
			t.Fatal(err)
		}
		s.see(t, s.driver(t))
	}
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	if n := len(s.patches()); n != 1 {
		t.Errorf("%d patches", n)
	}
	got := s.driver(t)
	want := corev1.PodCondition{
		Type: "spark-vitals.io/Death", Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-5 * time.Minute)),
		Reason: "DriverOOMKilled", Message: got.Annotations[annotations.Message],
	}
	if d := cmp.Diff(append([]corev1.PodCondition{want}, others...), got.Status.Conditions); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// A better word for the death is one for the condition, too.
func TestConditionIsCorrected(t *testing.T) {
	p := dead(t, "Error")
	p.Spec.Containers[0].LivenessProbe = nil
	s := recording(t, p)
	for _, reason := range []string{"DriverKilled", "DriverOOMKilled"} {
		if err := s.work(t); err != nil {
			t.Fatal(err)
		}
		got := s.driver(t)
		if c := deathCondition(got); c == nil || c.Reason != reason || c.Message != got.Annotations[annotations.Message] {
			t.Errorf("want %s: %+v", reason, c)
		}
		for i := range got.Status.ContainerStatuses {
			got.Status.ContainerStatuses[i].State.Terminated.Reason = "OOMKilled"
		}
		if _, err := s.CoreV1().Pods(got.Namespace).UpdateStatus(t.Context(), got, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.see(t, got)
	}
}

// A record without its condition, as an earlier release wrote it, or with another
// reason, is completed while the death is news, and left as it is later.
func TestConditionThatLacks(t *testing.T) {
	for name, test := range map[string]struct {
		stands *corev1.PodCondition
		age    time.Duration
		writes int
	}{
		"none":           {nil, time.Minute, 1},
		"none, old":      {nil, 2 * time.Hour, 0},
		"another reason": {&corev1.PodCondition{Type: annotations.DeathCondition, Status: corev1.ConditionTrue, Reason: "DriverHung"}, time.Minute, 1},
		"not true":       {&corev1.PodCondition{Type: annotations.DeathCondition, Status: corev1.ConditionFalse, Reason: "DriverOOMKilled"}, time.Minute, 1},
		"another text":   {&corev1.PodCondition{Type: annotations.DeathCondition, Status: corev1.ConditionTrue, Reason: "DriverOOMKilled", Message: "a stranger's"}, time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := dead(t, "OOMKilled")
			p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(now.Add(-test.age))
			var record oom.Record
			record.Add(oom.Terminations(oom.Evidence{Pod: p})...)
			p.Annotations = record.Annotations(podOf(t, p), oom.Plenty)
			if test.stands != nil {
				p.Status.Conditions = append(p.Status.Conditions, *test.stands)
			}
			s := recording(t, p)
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			if n := len(s.patches()); n != test.writes {
				t.Errorf("%d writes, want %d", n, test.writes)
			}
		})
	}
}

// executorDies: one of a driver's.
func (s *site) executorDies(t *testing.T, p *corev1.Pod) {
	t.Helper()
	executor := died(t, "../oom/testdata/causes/oomkilled-statefulset-again.txtar")
	executor.Namespace = p.Namespace
	executor.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID, Controller: new(true)}}
	executor.Labels[spark.ApplicationLabel] = p.Labels[spark.ApplicationLabel]
	s.see(t, executor)
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
}

// A driver that lives has no such condition, whatever its executors died of.
func TestConditionIsOfTheDriver(t *testing.T) {
	p := dead(t, "")
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	s := recording(t, p)
	s.executorDies(t, p)
	if got := s.driver(t); got.Annotations[annotations.Reason] != "ExecutorOOMKilled" || deathCondition(got) != nil {
		t.Errorf("%v, %+v", got.Annotations, deathCondition(got))
	}
}

// A record that a pod brings along makes no dead driver of one that lives.
func TestConditionOfALivingDriver(t *testing.T) {
	p := dead(t, "OOMKilled")
	var record oom.Record
	record.Add(oom.Terminations(oom.Evidence{Pod: p})...)
	p.Annotations = record.Annotations(podOf(t, p), oom.Plenty)
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	p.Status.Phase = corev1.PodRunning
	s := recording(t, p)
	s.executorDies(t, p)
	if got := s.driver(t); got.Annotations[annotations.State] != "" || got.Annotations[annotations.Reason] != "ExecutorOOMKilled" || deathCondition(got) != nil {
		t.Errorf("%v, %+v", got.Annotations, deathCondition(got))
	}
}

// Where the condition is refused, the record is written without it.
func TestConditionThatIsRefused(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.PrependReactor("patch", "pods", func(a kubetesting.Action) (bool, runtime.Object, error) {
		if strings.Contains(string(a.(kubetesting.PatchAction).GetPatch()), annotations.DeathCondition) {
			return true, nil, apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New("no"))
		}
		return false, nil, nil
	})
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	if got := s.driver(t); got.Annotations[annotations.State] == "" || deathCondition(got) != nil {
		t.Errorf("%v, %+v", got.Annotations, deathCondition(got))
	}
}

// Whoever removes the condition has it back after a while, and no sooner.
func TestConditionThatIsRemoved(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	at := now
	s.now = func() time.Time { return at }
	for range 100 {
		if err := s.work(t); err != nil {
			t.Fatal(err)
		}
		p := s.driver(t)
		p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == annotations.DeathCondition })
		if _, err := s.CoreV1().Pods(p.Namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.see(t, p)
		at = at.Add(20 * time.Second)
	}
	if n := len(s.patches()); n < 3 || n > 5 {
		t.Errorf("%d patches in half an hour", n)
	}
}

// Of the condition that which decides is kept, beside the same others as without
// it, and little of a long one.
func TestStrippedCondition(t *testing.T) {
	for _, p := range []*corev1.Pod{dead(t, "OOMKilled"), generate.Bloated(spark.Driver, spark.DriverContainer)} {
		without := strip(p).Status.Conditions
		long := strings.Repeat("x", 300<<10)
		own := corev1.PodCondition{Type: annotations.DeathCondition, Status: corev1.ConditionTrue, Reason: "DriverOOMKilled" + long, Message: long, LastTransitionTime: metav1.NewTime(now)}
		p.Status.Conditions = append([]corev1.PodCondition{own}, p.Status.Conditions...)
		stripped := strip(p)
		own.Reason, own.Message = own.Reason[:253], own.Message[:1<<10]
		if d := cmp.Diff(append(without, own), stripped.Status.Conditions); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if d := cmp.Diff(stripped, strip(stripped)); d != "" {
			t.Errorf("stripping again changes it:\n%s", d)
		}
		if text, _ := json.Marshal(stripped.Status.Conditions); len(text) > 32<<10 {
			t.Errorf("%d bytes of conditions remain", len(text))
		}
	}
}
