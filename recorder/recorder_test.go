package recorder

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var now = time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC)

// dead is a driver that was killed five minutes before now.
func dead(t *testing.T, reason string) *corev1.Pod {
	t.Helper()
	p := died(t, "../oom/testdata/causes/hung-driver.txtar")
	p.Name, p.Namespace, p.UID, p.ResourceVersion = "etl", "spark", "u-1", "1"
	end := p.Status.ContainerStatuses[0].State.Terminated
	end.Reason, end.FinishedAt = reason, metav1.NewTime(now.Add(-5*time.Minute))
	return p
}

type site struct {
	*recorder
	*fake.Clientset
}

// recording is a recorder that knows a pod, has no informers running, and whose
// queues the test serves.
func recording(t *testing.T, p *corev1.Pod, others ...runtime.Object) *site {
	t.Helper()
	client := fake.NewClientset(append(others, p)...)
	r, err := newRecorder(Config{Client: client, Everywhere: true, Log: slog.New(slog.DiscardHandler)}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.now, r.followWait = func() time.Time { return now }, 0
	t.Cleanup(func() { r.queue.ShutDown(); r.events.ShutDown() })
	s := &site{r, client}
	s.see(t, p)
	return s
}

// see the pod as a watch would show it.
func (s *site) see(t *testing.T, p *corev1.Pod) {
	t.Helper()
	object := strip(p)
	if err := s.pods.at(p.Namespace).GetIndexer().Add(object); err != nil {
		t.Fatal(err)
	}
	s.saw(object)
}

func (s *site) work(t *testing.T) error {
	t.Helper()
	var errs []error
	for _, app := range s.facts.applications() {
		if outcome := s.attempt(t.Context(), app); !outcome.done() {
			errs = append(errs, errors.New(string(outcome)))
		}
	}
	return errors.Join(errs...)
}

// createAll creates all Events that wait, each once.
func (s *site) createAll(t *testing.T) (again int) {
	t.Helper()
	for range s.recorder.events.Len() {
		next, _ := s.recorder.events.Get()
		s.recorder.events.Done(next)
		if s.create(t.Context(), next) != nil {
			s.recorder.events.Add(next)
			again++
		}
	}
	return again
}

func (s *site) driver(t *testing.T) *corev1.Pod {
	t.Helper()
	p, err := s.CoreV1().Pods("spark").Get(t.Context(), "etl", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *site) events(t *testing.T) (all []eventsv1.Event) {
	t.Helper()
	list, err := s.EventsV1().Events("spark").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func (s *site) want(t *testing.T, reason string, events int, deaths float64) {
	t.Helper()
	p := s.driver(t)
	if p.Annotations[annotations.Reason] != reason {
		t.Errorf("reason is %q, want %q", p.Annotations[annotations.Reason], reason)
	}
	if got := s.events(t); len(got) != events {
		t.Errorf("%d Events, want %d", len(got), events)
	}
	total := 0.0
	for _, cause := range []oom.Cause{oom.OOMKilled, oom.Killed, oom.Hung} {
		total += testutil.ToFloat64(s.metrics.deaths.WithLabelValues("spark", "driver", string(cause)))
	}
	if total != deaths {
		t.Errorf("%v deaths are counted, want %v", total, deaths)
	}
}

// refuse calls of a kind with an error, so often; the call is done before where
// only its answer is to be lost.
func (s *site) refuse(verb, resource string, err error, times int, done func(kubetesting.Action)) {
	s.PrependReactor(verb, resource, func(action kubetesting.Action) (bool, runtime.Object, error) {
		if times--; times < 0 {
			return false, nil, nil
		}
		if done != nil {
			done(action)
		}
		return true, nil, err
	})
}

var (
	forbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "etl", errors.New("no"))
	timeout   = apierrors.NewTimeoutError("no answer", 0)
	exists    = apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, "etl")
)

// terminating is what the API server says in a namespace that is being deleted.
func terminating() error {
	err := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "etl", errors.New("no"))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	return err
}

func TestDeathIsWrittenAndReported(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 1, 1)
	s.see(t, s.driver(t))
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 1, 1)
}

// Only the kubelet's Event about Spark's own container, just before its end,
// makes a suspected OOM a failed probe.
func TestKillingOfASidecar(t *testing.T) {
	for name, test := range map[string]struct {
		container string
		before    time.Duration
		want      string
	}{
		"its own":       {"spark-kubernetes-driver", 30 * time.Second, "DriverHung"},
		"a sidecar's":   {"proxy", time.Second, "DriverKilled"},
		"after the end": {"spark-kubernetes-driver", -2 * time.Second, "DriverKilled"},
		"an old one":    {"spark-kubernetes-driver", 3 * time.Minute, "DriverKilled"},
	} {
		t.Run(name, func(t *testing.T) {
			p := dead(t, "Error")
			s := recording(t, p, &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: "spark", Name: "killing"},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "spark", Name: "etl", UID: p.UID, FieldPath: "spec.containers{" + test.container + "}"},
				Reason:         "Killing", LastTimestamp: metav1.NewTime(p.Status.ContainerStatuses[0].State.Terminated.FinishedAt.Add(-test.before)),
			})
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			s.createAll(t)
			s.want(t, test.want, 1, 1)
		})
	}
}

// What died before a first start is on its driver and is no news.
func TestOldDeathsAreNotReported(t *testing.T) {
	p := dead(t, "OOMKilled")
	p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(now.Add(-2 * time.Hour))
	s := recording(t, p)
	s.backlog.SetBurst(0) // all of its rate is taken
	if err := s.work(t); err == nil || err.Error() != string(postponed) {
		t.Fatal(err)
	}
	s.backlog.SetLimit(rate.Inf)
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 0, 0)
}

// A write that is refused, or fails for long, is reported and tried again.
func TestRefusedWritesAreReported(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.refuse("patch", "pods", forbidden, 2, nil) // with the condition, and without
	if err := s.work(t); err == nil || err.Error() != string(refused) {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "", 1, 1)
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 1, 1)
}

// A write that was done and never answered is e.
func TestUnansweredWrite(t *testing.T) {
	p := dead(t, "OOMKilled")
	s := recording(t, p)
	s.refuse("patch", "pods", timeout, 1, func(action kubetesting.Action) {
		if _, err := s.Tracker().Get(action.GetResource(), "spark", "etl"); err != nil {
			t.Error(err)
		}
		var record oom.Record
		record.Add(oom.Terminations(oom.Evidence{Pod: p})...)
		driver, _ := spark.PodOf(p)
		p.Annotations = record.Annotations(driver, oom.Plenty)
		if err := s.Tracker().Update(action.GetResource(), p, "spark"); err != nil {
			t.Error(err)
		}
	})
	if err := s.work(t); err == nil {
		t.Fatal("the answer was not lost")
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 0, 0)
	if err := s.pods.at("spark").GetIndexer().Update(strip(s.driver(t))); err != nil {
		t.Fatal(err)
	}
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 1, 1)
}

// An Event is tried until it stands or is refused for good; the death is counted
// once whatever the answers.
func TestEventsAreTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		done   bool
		took   time.Duration
		again  int
		events int
	}{
		"not done":                           {timeout, false, 0, 1, 1},
		"done, unanswered":                   {timeout, true, 0, 1, 1},
		"done, and client-go called again":   {exists, true, time.Second, 0, 1},
		"the API server does not know roles": {forbidden, false, 0, 1, 1},
		"refused":                            {terminating(), false, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := recording(t, dead(t, "OOMKilled"))
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			s.refuse("create", "events", test.err, 1, func(action kubetesting.Action) {
				s.now = func() time.Time { return now.Add(test.took) }
				if !test.done {
					return
				}
				created := action.(kubetesting.CreateAction).GetObject().(*eventsv1.Event)
				core := &corev1.Event{ObjectMeta: created.ObjectMeta, ReportingInstance: created.ReportingInstance}
				for resource, object := range map[string]runtime.Object{"events.k8s.io": created, "": core} {
					if err := s.Tracker().Create(schema.GroupVersionResource{Group: resource, Version: "v1", Resource: "events"}, object, "spark"); err != nil {
						t.Error(err)
					}
				}
			})
			if again := s.createAll(t); again != test.again {
				t.Errorf("%d are to be created again", again)
			}
			s.createAll(t)
			s.want(t, "DriverOOMKilled", test.events, 1)
		})
	}
}

// A forged state on a driver that lives is removed, and a true one stands.
func TestForgedState(t *testing.T) {
	for reason, state := range map[string]string{"": "", "OOMKilled": "KILLED"} {
		p := dead(t, reason)
		p.Annotations = map[string]string{annotations.State: "KILLED", annotations.Released: "x"}
		if reason == "" {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}
		s := recording(t, p)
		driver, err := spark.PodOf(strip(p))
		if err != nil {
			t.Fatal(err)
		}
		if w := s.writeOn(t.Context(), driver, nil); w.outcome != written {
			t.Fatal(w.err)
		}
		got := s.driver(t)
		if got.Annotations[annotations.State] != state || got.Annotations[annotations.Released] != "x" {
			t.Errorf("%s: %v", reason, got.Annotations)
		}
	}
}

// A bug is reported, and ends neither the recorder nor other records.
func TestPanic(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.PrependReactor("patch", "pods", func(kubetesting.Action) (bool, runtime.Object, error) { panic("a mistake") })
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(s.metrics.errors.WithLabelValues("panic")); n != 1 {
		t.Errorf("%v mistakes are counted", n)
	}
}

// A namespace that opts in brings the deaths that are there.
func TestOptIn(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.facts.take(applicationOf(spark.Pod{Pod: dead(t, ""), Role: spark.Driver}), now)
	s.Everywhere = false
	s.see(t, dead(t, "OOMKilled"))
	if n := s.facts.due(now.Add(time.Hour)); n != 1 { // the one that was taken
		t.Fatalf("%d facts of where nobody opted in", n)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "spark"}}
	if err := s.namespaces.watched.GetIndexer().Add(namespace); err != nil {
		t.Fatal(err)
	}
	s.follow(namespace.Name)
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	s.createAll(t)
	s.want(t, "DriverOOMKilled", 1, 1)
}

func TestOutage(t *testing.T) {
	var f failures
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	for m := range 5 {
		f.add(at(m))
		if f.persist(at(m)) {
			t.Errorf("it lasts after %d minutes", m)
		}
	}
	f.add(at(5))
	if !f.persist(at(5)) || f.persist(at(8)) {
		t.Error("it lasts too short or too long")
	}
	if f.add(at(60)); f.persist(at(60)) {
		t.Error("another outage is taken for the same")
	}
}

// A list that finds another pod of the same name says that the first is gone.
func TestReplacedPodIsGone(t *testing.T) {
	running := dead(t, "")
	running.Status.ContainerStatuses[0].State = corev1.ContainerState{}
	running.Status.Phase = corev1.PodRunning
	s := recording(t, running)
	other := running.DeepCopy()
	job.Handler(s.saw, s.gone).OnUpdate(running, other)
	if unseen := testutil.ToFloat64(s.metrics.unseen); unseen != 0 {
		t.Errorf("%v ends unseen of a pod that goes on", unseen)
	}
	other.UID = "u-2"
	job.Handler(s.saw, s.gone).OnUpdate(running, other)
	if unseen := testutil.ToFloat64(s.metrics.unseen); unseen != 1 {
		t.Errorf("%v ends unseen", unseen)
	}
}

// A record that is full counts no more deaths of executors without a number, and
// they are reported all the same.
func TestFullRecord(t *testing.T) {
	driver := dead(t, "")
	driver.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	var record oom.Record
	for i := range 500 {
		record.Add(oom.Termination{Set: fmt.Sprintf("pod %08x", i), Role: spark.Executor, Pod: "executor", Cause: oom.OOMKilled, ExitCode: new(int32(137))})
	}
	driver.Annotations = record.Annotations(podOf(t, driver), oom.Plenty)
	s := recording(t, driver)
	executor := died(t, "../oom/testdata/causes/oomkilled-statefulset-again.txtar")
	executor.Name, executor.Namespace, executor.UID = "executor", "spark", "ffffffff-1"
	executor.Labels[spark.ApplicationLabel] = driver.Labels[spark.ApplicationLabel]
	executor.Status.ContainerStatuses[0].LastTerminationState.Terminated.FinishedAt = metav1.NewTime(now.Add(-time.Minute))
	s.see(t, executor)
	for range 2 { // it stays known, and is reported once
		if err := s.work(t); err != nil {
			t.Fatal(err)
		}
		s.createAll(t)
		s.see(t, executor)
	}
	if found := s.events(t); len(found) != 1 || found[0].Reason != "ExecutorOOMKilled" {
		t.Errorf("Events: %+v", found)
	}
}

// A driver that may be started again is not KILLED, whatever it died of, until
// its pod has failed.
func TestRestartedDriver(t *testing.T) {
	p := dead(t, "OOMKilled")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	status := &p.Status.ContainerStatuses[0]
	p.Status.Phase, status.RestartCount = corev1.PodRunning, 1
	status.LastTerminationState, status.State = status.State, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	s := recording(t, p)
	for _, want := range []string{"", "KILLED"} {
		if err := s.work(t); err != nil {
			t.Fatal(err)
		}
		s.createAll(t)
		s.want(t, "DriverOOMKilled", 1, 1)
		if state := s.driver(t).Annotations[annotations.State]; state != want {
			t.Errorf("the state is %q, want %q", state, want)
		}
		p = s.driver(t)
		p.Status.Phase = corev1.PodFailed
		s.see(t, p)
	}
}
