package recorder

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Of many deaths of one application the first have an Event each, and then there
// is one in five minutes that says how many there were. Two replicas make none
// twice, and of both one counts each death.
func TestManyDeathsHaveFewEvents(t *testing.T) {
	driver := dead(t, "")
	driver.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	driver.Status.Phase = corev1.PodRunning
	first := recording(t, driver)
	r, err := newRecorder(Config{Client: first.Clientset, Everywhere: true, Log: slog.New(slog.DiscardHandler)}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.followWait = 0
	second := &site{r, first.Clientset}
	replicas := []*site{first, second}
	at := now
	for i, s := range replicas {
		s.now = func() time.Time { return at }
		if i > 0 {
			s.see(t, driver)
		}
	}
	const deaths = 200
	for i := range deaths {
		at = at.Add(3 * time.Second)
		executor := died(t, "../oom/testdata/causes/oomkilled-executor.txtar")
		executor.Name, executor.Namespace, executor.UID = fmt.Sprintf("exec-%d", i+1), "spark", types.UID(fmt.Sprint("exec-", i))
		executor.Labels[spark.ApplicationLabel], executor.Labels[spark.ExecutorIDLabel] = driver.Labels[spark.ApplicationLabel], strconv.Itoa(i+1)
		executor.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: driver.Name, UID: driver.UID, Controller: new(true)}}
		executor.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(at)
		at = at.Add(time.Millisecond)
		for j := range replicas { // now the one and now the other is first
			s := replicas[(i+j)%2]
			s.see(t, s.driver(t))
			s.see(t, executor)
			s.facts.hurry()
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			s.createAll(t)
		}
	}
	own, many := 0, 0
	for _, e := range first.events(t) {
		if strings.Contains(e.Note, "deaths of this application so far") {
			many++
		} else {
			own++
		}
	}
	if own != ownEvents || many < 1 || many > deaths*3/300+2 {
		t.Errorf("%d Events of their own, %d of many", own, many)
	}
	counted := 0.0
	for _, s := range replicas {
		counted += testutil.ToFloat64(s.metrics.deaths.WithLabelValues("spark", "executor", string(oom.OOMKilled)))
	}
	if counted != deaths {
		t.Errorf("%v deaths are counted", counted)
	}
}

// asked are the calls of a verb for a resource.
func (s *site) asked(verb, resource string) (n int) {
	for _, a := range s.Actions() {
		if a.Matches(verb, resource) {
			n++
		}
	}
	return n
}

// The replica that wrote a death creates its Event. The other looks whether it has,
// and creates the Event if that one ended before it could.
func TestOneReplicaCreatesTheEvent(t *testing.T) {
	for name, ended := range map[string]bool{"both live": false, "the one that wrote ended": true} {
		t.Run(name, func(t *testing.T) {
			first := recording(t, dead(t, "OOMKilled"))
			r, err := newRecorder(Config{Client: first.Clientset, Everywhere: true, Log: slog.New(slog.DiscardHandler)}, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			r.now, r.followWait = first.now, 0
			second := &site{r, first.Clientset}
			for _, s := range []*site{first, second} {
				s.see(t, s.driver(t))
				s.facts.hurry()
				if err := s.work(t); err != nil {
					t.Fatal(err)
				}
				if s == second || !ended {
					s.createAll(t)
				}
			}
			counted := 0.0
			for _, s := range []*site{first, second} {
				counted += testutil.ToFloat64(s.metrics.deaths.WithLabelValues("spark", "driver", string(oom.OOMKilled)))
			}
			if creations := first.asked("create", "events"); creations != 1 || counted != 1 {
				t.Errorf("%d creations of Events, %v deaths are counted", creations, counted)
			}
		})
	}
}
