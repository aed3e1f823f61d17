package recorder

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// again is the driver that an operator makes after the first one: of the same
// name, if its application is restarted.
func again(t *testing.T, uid, owner types.UID, created time.Time) *corev1.Pod {
	t.Helper()
	p := dead(t, "Error")
	p.UID, p.CreationTimestamp = uid, metav1.NewTime(created)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning}
	p.OwnerReferences = owners(owner)
	return p
}

func owners(uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "sparkoperator.k8s.io/v1beta2", Kind: "SparkApplication", Name: "etl", UID: uid, Controller: new(true)}}
}

// restarted is how the second driver looks after its recorder has worked.
func restarted(t *testing.T, s *site, second *corev1.Pod) *corev1.Pod {
	t.Helper()
	pods := s.CoreV1().Pods("spark")
	if err := pods.Delete(t.Context(), "etl", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Create(t.Context(), second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.see(t, second)
	for range s.queue.Len() {
		app, _ := s.queue.Get()
		if outcome := s.attempt(t.Context(), app); !outcome.done() {
			t.Fatal(outcome)
		}
		s.queue.Done(app)
	}
	if outcome := s.carry(t.Context(), applicationOf(mustPod(t, second))); !outcome.done() {
		t.Fatal(outcome)
	}
	return s.driver(t)
}

// The driver that a SparkApplication gets after one that died says how that ended,
// and has no state of its own.
func TestPreviousDriver(t *testing.T) {
	for name, test := range map[string]struct {
		owner   types.UID
		created time.Time
		want    bool
	}{
		"the next driver of its owner":           {"a-1", now.Add(-time.Minute), true},
		"a driver of another owner":              {"a-2", now.Add(-time.Minute), false},
		"a driver that ran while the other died": {"a-1", now.Add(-time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			first := dead(t, "OOMKilled")
			first.OwnerReferences = owners("a-1")
			s := recording(t, first)
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			p := restarted(t, s, again(t, "u-2", test.owner, test.created))
			end, err := oom.ReadPrevious(p.Annotations)
			if err != nil || (end != nil) != test.want || p.Annotations[annotations.State] != "" {
				t.Fatalf("%+v, %v, state %q", end, err, p.Annotations[annotations.State])
			}
			if test.want && (end.UID != "u-1" || end.State != oom.StateKilled || !strings.HasPrefix(end.Message, "The driver was ")) {
				t.Errorf("%+v", end)
			}
		})
	}
}

// A recorder that was started after the first driver had its record knows it from
// there, as long as it sees that driver.
func TestPreviousDriverOfARecord(t *testing.T) {
	first := dead(t, "OOMKilled")
	first.OwnerReferences = owners("a-1")
	s := recording(t, first)
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	written := s.driver(t)
	other := recording(t, written)
	if p := restarted(t, other, again(t, "u-2", "a-1", now.Add(-time.Minute))); p.Annotations[annotations.Previous] == "" {
		t.Error("it is not carried over")
	}
	fresh := recording(t, again(t, "u-2", "a-1", now.Add(-time.Minute)))
	if outcome := fresh.carry(t.Context(), applicationOf(mustPod(t, written))); !outcome.done() || fresh.driver(t).Annotations[annotations.Previous] != "" {
		t.Error("a recorder says what it has not seen", outcome)
	}
}

func mustPod(t *testing.T, p *corev1.Pod) spark.Pod {
	t.Helper()
	pod, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}
