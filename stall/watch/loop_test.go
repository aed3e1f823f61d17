package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

const after = 30 * time.Minute

const callsPerSecond = 10

// simulation is a cluster of drivers that write a line each minute until the test
// silences them, and the loop on it. It runs by the bubble's clock.
type simulation struct {
	*loop
	t         *testing.T
	began     time.Time
	silent    map[string]time.Time // since when
	fails     map[string]error
	marks     map[string]*annotations.StallMark
	events    []string
	written   int
	once      map[string]bool
	asked     map[string]int
	ui        annotations.UIState
	tasks     func() *driverui.Tasks
	answer    driverui.Answer
	questions int
	named     time.Time // when its log had names last
	names     string
	threads   []stall.Thread
	thread    map[string]string
	next      map[key]time.Time
}

func newSimulation(t *testing.T) *simulation {
	s := &simulation{t: t, began: time.Now(), silent: map[string]time.Time{}, fails: map[string]error{}, marks: map[string]*annotations.StallMark{}, asked: map[string]int{}, once: map[string]bool{}, next: map[key]time.Time{}, thread: map[string]string{}, tasks: func() *driverui.Tasks { return nil }}
	s.loop = newLoop(s, callsPerSecond, slog.New(slog.DiscardHandler))
	return s
}

func (s *simulation) Tail(_ context.Context, of spark.Pod, _ int64) (stall.Tail, error) {
	s.asked[of.Name]++
	last := time.Now().Truncate(time.Minute)
	if since, ok := s.silent[of.Name]; ok {
		last = since
	}
	return stall.Tail{Last: last, Thread: s.thread[of.Name]}, s.fails[of.Name]
}

func (s *simulation) UI(context.Context, spark.Pod) annotations.UIState { return s.ui }

func (s *simulation) Tasks(context.Context, spark.Pod) *driverui.Tasks { return s.tasks() }

func (s *simulation) Threads(context.Context, spark.Pod) []stall.Thread { return s.threads }

func (s *simulation) Answer(context.Context, spark.Pod) driverui.Answer {
	s.questions++
	return s.answer
}

func (s *simulation) Log(_ context.Context, _ spark.Pod, within time.Duration) (log string, err error) {
	if time.Since(s.named) <= within {
		log = s.names
	}
	return log, nil
}

func (s *simulation) Usage(context.Context, spark.Pod) (executors *int, cpu *int64) { return nil, nil }

func (s *simulation) WriteMark(_ context.Context, k key, m *annotations.StallMark) error {
	s.written++
	if err := s.fails["mark"]; err != nil {
		return err
	}
	s.marks[k.Name] = m
	return nil
}

func (s *simulation) EmitEvent(_ context.Context, on key, of *annotations.StallMark, _, reason, _ string) {
	if once := fmt.Sprint(on, of.Since, of.Confidence, reason); !s.once[once] {
		s.events, s.once[once] = append(s.events, on.Name+" "+reason), true
	}
}

func (s *simulation) Add(k key) { s.next[k] = time.Now() }

// run runs the loop for a time, as its queue does.
func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(d); ; {
		var first key
		at := end
		for k, due := range s.next {
			if due.Before(at) {
				first, at = k, due
			}
		}
		time.Sleep(time.Until(at))
		if !at.Before(end) {
			return
		}
		result, err := s.Reconcile(s.t.Context(), first)
		if err != nil {
			s.t.Fatal(err)
		}
		delete(s.next, first)
		if result.RequeueAfter > 0 {
			s.next[first] = time.Now().Add(result.RequeueAfter)
		}
	}
}

func podOf(review captured.Review) *corev1.Pod {
	pod := &corev1.Pod{}
	if err := json.Unmarshal(review.Object(), pod); err != nil {
		panic(err)
	}
	return pod
}

// driverPod of Spark's that has just started.
func driverPod(name string) *corev1.Pod {
	pod := podOf(captured.Named("spark-4.1.4/driver"))
	pod.Name, pod.Namespace, pod.UID = name, "spark", types.UID(name)
	pod.Annotations = map[string]string{annotations.LogStallAfter: after.String()}
	driver, err := spark.PodOf(pod)
	if err != nil {
		panic(err)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3", HostIP: "10.9.9.9", ContainerStatuses: []corev1.ContainerStatus{
		{Name: driver.Container().Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now())}}},
	}}
	return pod
}

func (s *simulation) start(names ...string) {
	for _, name := range names {
		s.see(driverPod(name), s)
	}
}

// startFor starts drivers that may be silent for so long.
func (s *simulation) startFor(after time.Duration, names ...string) {
	for _, name := range names {
		pod := driverPod(name)
		pod.Annotations[annotations.LogStallAfter] = after.String()
		s.see(pod, s)
	}
}

// leadsAnew starts another process, so long after the drivers began.
func (s *simulation) leadsAnew(after time.Duration, names ...string) {
	s.loop, s.next = newLoop(s, callsPerSecond, s.log), map[key]time.Time{}
	for _, name := range names {
		pod := driverPod(name)
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(-after))
		if mark := s.marks[name]; mark != nil {
			pod.Annotations[annotations.Stalled] = mark.String()
		}
		s.see(pod, s)
	}
}

// unread makes the logs unreadable from now on.
func (s *simulation) unread(names ...string) {
	for _, name := range names {
		s.fails[name] = errors.New("its kubelet does not answer")
	}
}

func (s *simulation) silence(names ...string) {
	for _, name := range names {
		s.silent[name] = time.Now()
	}
}

func (s *simulation) marked() (names []string) {
	for name, mark := range s.marks {
		if mark != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func bubble(t *testing.T, f func(*simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newSimulation(t)) })
}

func TestReported(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.thread = map[string]string{"quiet": "dag-scheduler-event-loop"}
		s.start("quiet", "lively")
		s.run(5 * time.Minute)
		s.silence("quiet")
		s.run(after)
		if len(s.marks) > 0 {
			t.Errorf("marked after %s", after)
		}
		s.run(after / 2)
		if got := s.marked(); !slices.Equal(got, []string{"quiet"}) || s.marks["quiet"].Confidence != annotations.Sure {
			t.Fatalf("marked are %v, %v", got, s.marks["quiet"])
		}
		s.run(3 * time.Hour)
		if !slices.Equal(s.events, []string{"quiet DriverStalled"}) {
			t.Errorf("events %q", s.events)
		}
		if n := s.asked["lively"]; n > 8 {
			t.Errorf("a driver that writes was asked %d times in four hours", n)
		}
		delete(s.silent, "quiet")
		s.run(10 * time.Minute)
		if got := s.marked(); len(got) > 0 || !slices.Equal(s.events, []string{"quiet DriverStalled", "quiet DriverTalksAgain"}) {
			t.Errorf("it talks again: marked are %v, events %q", got, s.events)
		}
	})
}

// A marked driver is judged again at each look. A second Event follows only when that is
// more sure. What is not known changes nothing.
func TestJudgedAgain(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("warn")
		s.silence("warn")
		for _, c := range []struct {
			ui     annotations.UIState
			want   annotations.Confidence
			events int
		}{
			{annotations.UIAnswers, annotations.Unsure, 1}, {annotations.UISilent, annotations.Likely, 2}, {annotations.UIUnknown, annotations.Likely, 2}, {annotations.UIAnswers, annotations.Unsure, 2},
		} {
			s.ui = c.ui
			s.run(time.Hour)
			if mark := s.marks["warn"]; mark == nil || mark.Confidence != c.want || len(s.events) != c.events {
				t.Fatalf("the UI is %q: %s, events %q", c.ui, mark, s.events)
			}
		}
		if got := s.count().stalled["spark"]; got[annotations.Unsure] != 1 || got[annotations.Likely] != 0 {
			t.Errorf("counted %v", got)
		}
	})
}

// A driver that works is not marked, however long its log is silent: a task runs, tasks
// have run between two looks, or a thread of the program runs. A mark is removed once it
// works again. Threads that hang say so.
func TestThreads(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.ui = annotations.UIAnswers
		s.start("warn")
		s.silence("warn")
		waits := []stall.Thread{{ID: 1, Name: "main", State: "WAITING", Stack: []string{"Main.main(Main.java:3)"}}}
		started := int64(0)
		for _, c := range []struct {
			name    string
			tasks   func() *driverui.Tasks
			threads []stall.Thread
			want    annotations.Confidence
			events  int
		}{
			{"a task runs", func() *driverui.Tasks { return &driverui.Tasks{Running: 1} }, waits, "", 0},
			{"short tasks", func() *driverui.Tasks { started++; return &driverui.Tasks{Started: started} }, waits, "", 0},
			{"a thread runs", func() *driverui.Tasks { return nil }, []stall.Thread{{Name: "main", State: "RUNNABLE", Stack: []string{"Main.main(Main.java:3)"}}}, "", 0},
			{"waits", func() *driverui.Tasks { return &driverui.Tasks{Started: 5} }, waits, annotations.Unsure, 1},
			{"works again", func() *driverui.Tasks { started++; return &driverui.Tasks{Started: 5 + started} }, waits, "", 2},
			{"deadlock", func() *driverui.Tasks { return nil }, []stall.Thread{{ID: 1, Name: "main", BlockedBy: 2}, {ID: 2, Name: "b", BlockedBy: 1}}, annotations.Sure, 3},
		} {
			s.tasks, s.threads = c.tasks, c.threads
			s.run(time.Hour)
			got := annotations.Confidence("")
			if mark := s.marks["warn"]; mark != nil {
				got = mark.Confidence
			}
			if got != c.want || len(s.events) != c.events {
				t.Fatalf("%s: %q, want %q, events %q", c.name, got, c.want, s.events)
			}
		}
	})
}

func TestUnknownIsNotSilent(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("away")
		s.fails["away"] = errors.New("the kubelet does not answer")
		s.silence("away")
		s.run(5 * time.Hour)
		if len(s.marked()) > 0 || s.count().unknown != 1 {
			t.Errorf("marked are %v, unknown %d", s.marked(), s.count().unknown)
		}
		delete(s.fails, "away")
		s.run(time.Hour)
		if len(s.marked()) != 1 || s.count().unknown != 0 {
			t.Errorf("marked are %v, unknown %d", s.marked(), s.count().unknown)
		}
	})
}

// A mark that cannot be written is reported all the same, and written later.
func TestMarkIsTriedAgain(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("quiet", "batch")
		s.silence("quiet", "batch")
		refused := errors.New("a guard refuses it")
		s.fails["mark"] = refused
		s.run(2 * time.Hour)
		stalls := testutil.ToFloat64(s.metrics.stalls.WithLabelValues("spark", string(annotations.Unsure)))
		if n := s.count(); len(s.events) != 2 || n.unwritten != 2 || n.stalled["spark"][annotations.Unsure] != 2 || stalls != 2 {
			t.Errorf("events %q, counted %v and %v", s.events, n, stalls)
		}
		delete(s.fails, "mark")
		s.run(10 * time.Minute)
		if len(s.marked()) != 2 || len(s.events) != 2 || s.count().unwritten != 0 {
			t.Errorf("marked are %v, events %q", s.marked(), s.events)
		}

		// Also the end of a mark, and where the driver ends meanwhile.
		s.fails["mark"] = refused
		s.silent = nil
		s.run(10 * time.Minute)
		s.ends(job.KeyOf(driverPod("batch")), s)
		s.run(10 * time.Minute)
		if n := s.count(); n.unwritten != 2 || len(s.events) != 4 {
			t.Errorf("events %q, counted %v", s.events, n)
		}
		delete(s.fails, "mark")
		s.run(10 * time.Minute)
		if len(s.marked()) > 0 || s.count().unwritten != 0 || len(s.drivers) != 1 {
			t.Errorf("marked are %v, kept %d", s.marked(), len(s.drivers))
		}
	})
}

func TestMassSilence(t *testing.T) {
	bubble(t, func(s *simulation) {
		var all []string
		for i := range 9 {
			all = append(all, fmt.Sprint("driver-", i))
		}
		s.start(all...)
		s.run(7 * time.Minute)
		s.silence(all[:6]...)
		s.run(5 * time.Hour)
		if got := s.marked(); len(got) > 0 || s.count().held["spark"] != 6 {
			t.Fatalf("marked are %v, held %v", got, s.count().held)
		}
		for _, name := range all[:3] { // logs arrive again; three hang after all
			delete(s.silent, name)
		}
		s.run(time.Hour)
		if got := s.marked(); !slices.Equal(got, all[3:6]) || s.count().held["spark"] != 0 {
			t.Errorf("marked are %v", got)
		}
	})
}

// hundred returns a hundred drivers that may be silent for so long. At fewCalls a look at
// each takes eleven minutes.
func hundred(after time.Duration) (pods []*corev1.Pod) {
	for i := range 100 {
		pod := driverPod(fmt.Sprint("d-", i))
		pod.Annotations[annotations.LogStallAfter] = after.String()
		pods = append(pods, pod)
	}
	return pods
}

const fewCalls = 0.3 // a second

func (s *simulation) watchSlowly(pods []*corev1.Pod) {
	s.loop = newLoop(s, fewCalls, s.log)
	for _, pod := range pods {
		s.see(pod, s)
	}
}

// In a mass silence no driver is marked before all were looked at, nor by a new leader.
func TestMassSilenceIsFoundSlowly(t *testing.T) {
	for _, after := range []time.Duration{time.Minute, 10 * time.Minute, 30 * time.Minute} {
		bubble(t, func(s *simulation) {
			pods := hundred(after)
			s.watchSlowly(pods)
			s.run(2 * after)
			for _, pod := range pods {
				s.silence(pod.Name)
			}
			s.run(after + time.Hour)
			q := newSimulation(t)
			q.silent = s.silent
			q.watchSlowly(pods)
			q.run(time.Hour)
			if len(s.events) > 0 || len(q.events) > 0 || s.count().held["spark"] < 50 || q.count().held["spark"] < 50 {
				t.Errorf("%s: events %q, held %v; a new leader: events %q, held %v", after, s.events, s.count().held, q.events, q.count().held)
			}
		})
	}
}

// A driver that is late for a look, and wrote since others fell silent, did not fall
// silent with them.
func TestLateIsNotSilent(t *testing.T) {
	bubble(t, func(s *simulation) {
		pods := hundred(time.Minute)
		s.watchSlowly(pods)
		s.run(10 * time.Minute)
		for _, pod := range pods[:30] {
			s.silence(pod.Name)
		}
		if s.run(2 * time.Hour); len(s.marked()) < 25 {
			t.Errorf("marked are %v, held %v", s.marked(), s.count().held)
		}
	})
}

// While more than half are late for a look, nothing is reported and no mark withdrawn.
func TestWaitsForTheLate(t *testing.T) {
	for _, silent := range []bool{true, false} {
		bubble(t, func(s *simulation) {
			marked, since := driverPod("e"), time.Now().Add(-time.Hour)
			marked.Annotations[annotations.Stalled] = stall.NewMark(since, time.Now(), annotations.StallEvidence{LastLine: since}).String()
			s.silent["e"] = since
			s.see(marked, s)
			s.start("a", "b", "c", "d", "f", "g", "h", "i")
			s.silence("a")
			late := []string{"b", "c", "d", "f", "g", "h", "i"}
			for _, name := range late {
				s.next[job.KeyOf(driverPod(name))] = time.Now().Add(2 * time.Hour)
			}
			if silent {
				s.silence(late...)
			}
			if s.run(119 * time.Minute); s.written > 0 || len(s.events) > 0 || s.count().held["spark"] > 0 {
				t.Errorf("events %q, held %v", s.events, s.count().held)
			}
			s.run(30 * time.Minute)
			if got := s.marked(); silent && len(got) > 0 || !silent && !slices.Equal(got, []string{"a"}) {
				t.Errorf("marked are %v", got)
			}
		})
	}
}

// A driver whose log cannot be read does not count, and nothing waits for it.
func TestUnreadIsNotCounted(t *testing.T) {
	hang, others := []string{"a", "b", "c", "d", "e"}, []string{"f", "g", "h", "i", "j", "k", "l"}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		arrange      func(*simulation)
		marked, held int
	}{
		"most that can be read are silent": {arrange: func(s *simulation) {
			s.start(slices.Concat(hang, others)...)
			s.run(7 * time.Minute)
			s.silence(hang...)
			s.unread(others[2:]...)
		}, held: 5},
		"most that can be read talk": {arrange: func(s *simulation) {
			s.start(slices.Concat(hang, others)...)
			s.run(7 * time.Minute)
			s.silence(hang...)
			s.unread(others[6:]...)
		}, marked: 5},
		"they talked for long before": {arrange: func(s *simulation) {
			s.startFor(day, hang...)
			s.startFor(time.Hour, others...)
			s.run(time.Hour)
			s.silence(hang...)
			s.run(20 * time.Hour)
			s.unread(others...)
		}, marked: 5},
		"after the marks": {arrange: func(s *simulation) {
			s.startFor(day, slices.Concat(hang, others)...)
			s.run(time.Hour)
			s.silence(hang...)
			s.run(2 * day)
			s.unread(others...)
		}, marked: 5},
		"a new leader": {arrange: func(s *simulation) {
			s.start(slices.Concat(hang, others)...)
			s.run(time.Hour)
			s.silence(hang...)
			s.run(time.Hour)
			s.unread(others...)
			s.leadsAnew(2*time.Hour, slices.Concat(hang, others)...)
		}, marked: 5},
		"silent before": {arrange: func(s *simulation) {
			s.start(slices.Concat(hang, others[:4])...)
			s.run(7 * time.Minute)
			s.silence(hang...)
			s.run(32 * time.Minute) // looked at once
			s.unread(hang[1:]...)
		}, marked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *simulation) {
				c.arrange(s)
				s.run(2 * day)
				withdrawn := slices.ContainsFunc(s.events, func(event string) bool { return strings.HasSuffix(event, "StallWithdrawn") })
				if got := s.marked(); len(got) != c.marked || s.count().held["spark"] != c.held || withdrawn {
					t.Errorf("marked are %v, held %v, events %q", got, s.count().held, s.events)
				}
			})
		})
	}
}

// Nothing waits for a driver that began after others fell silent.
func TestBeganLater(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.startFor(3*time.Hour, "a", "b", "c", "d", "e")
		s.silence("a", "b", "c", "d", "e")
		s.run(2 * time.Hour)
		late := []string{"f", "g", "h", "i", "j", "k"}
		s.startFor(time.Minute, late...)
		for _, name := range late {
			s.next[job.KeyOf(driverPod(name))] = time.Now().Add(100 * time.Hour)
		}
		if s.run(2 * time.Hour); len(s.marked()) != 5 {
			t.Errorf("marked are %v, held %v", s.marked(), s.count().held)
		}
	})
}

// A driver that fell silent at another time is not held in a mass silence, nor is one
// whose log says what it died of.
func TestOutsideOfAMassSilence(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("a", "b", "c", "d", "e", "f", "g", "h")
		s.silence("a", "b", "c", "d", "e")
		s.run(3 * time.Hour)
		s.silence("f")
		s.thread = map[string]string{"a": "dag-scheduler-event-loop", "f": "Thread-9"}
		s.run(time.Hour)
		if got := s.marked(); !slices.Equal(got, []string{"a", "f"}) || s.count().held["spark"] != 4 {
			t.Errorf("marked are %v, held %v", got, s.count().held)
		}
	})
}

// Half of the calls are left to other namespaces, however many drivers one has.
func TestOneNamespaceTakesHalf(t *testing.T) {
	bubble(t, func(s *simulation) {
		for i := range 200 {
			pod := driverPod(fmt.Sprint("d-", i))
			pod.Annotations[annotations.LogStallAfter] = "1m"
			s.see(pod, s)
			s.thread[pod.Name] = "JobGenerator" // never held back
		}
		for range 10 { // writes a line now and then, and is reported again
			for i := range 200 {
				s.silence(fmt.Sprint("d-", i))
			}
			s.run(2 * time.Minute)
		}
		looks := 0
		for _, n := range s.asked {
			looks += n
		}
		if calls := float64(looks+2*s.written) / time.Since(s.began).Seconds(); calls > callsPerSecond/2+.1 || calls < callsPerSecond/4 {
			t.Errorf("%.1f calls a second", calls)
		}
	})
}

// One silent driver of many in most namespaces is no mass silence.
func TestSilentInManyNamespaces(t *testing.T) {
	bubble(t, func(s *simulation) {
		for n := range 8 {
			for i := range 10 {
				pod := driverPod(fmt.Sprintf("d-%d-%d", n, i))
				pod.Namespace = fmt.Sprint("team-", n)
				s.see(pod, s)
			}
			s.silence(fmt.Sprintf("d-%d-0", n))
		}
		s.run(time.Hour)
		if got := s.marked(); len(got) != 8 {
			t.Errorf("marked are %v, held %v", got, s.count().held)
		}
	})
}

// The mark of a driver that was found before the others fell silent is withdrawn.
func TestWithdrawn(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("a", "b", "c", "d", "e")
		s.silence("a")
		s.run(5 * time.Minute)
		s.silence("b", "c", "d", "e")
		s.run(4 * time.Hour)
		if got := s.marked(); len(got) > 0 || !slices.Contains(s.events, "a StallWithdrawn") {
			t.Errorf("marked are %v, events %q", got, s.events)
		}
	})
}

func TestRestarts(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("quiet", "again")
		s.silence("quiet", "again")
		s.run(time.Hour)
		if len(s.marked()) != 2 {
			t.Fatalf("marked are %v", s.marked())
		}
		s.run(20 * time.Minute)
		// The container: its log begins again.
		delete(s.silent, "again")
		s.see(driverPod("again"), s)
		if s.run(time.Second); !slices.Equal(s.marked(), []string{"quiet"}) {
			t.Errorf("after the restart, marked are %v", s.marked())
		}
		// The watch: it finds the mark on the pod and reports nothing twice.
		q := newSimulation(t)
		q.silent = s.silent
		q.marks["quiet"] = s.marks["quiet"]
		pod := driverPod("quiet")
		pod.Annotations[annotations.Stalled] = s.marks["quiet"].String()
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(s.began)
		q.see(pod, q)
		q.run(time.Hour)
		if len(q.events) > 0 || len(q.marked()) != 1 {
			t.Errorf("new events: %q", q.events)
		}
		s.run(time.Hour)
		if got := s.marked(); !slices.Equal(got, []string{"quiet"}) {
			t.Errorf("marked are %v", got)
		}
	})
}

// A driver that logs and ends before it is due is looked at once more, and so loses the
// mark. A driver that ended without another line keeps it.
func TestEnded(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("batch", "mute", "away", "lively")
		s.silence("batch", "mute", "away")
		s.run(time.Hour)
		for _, name := range []string{"batch", "away"} { // write their last lines
			s.silent[name] = time.Now()
		}
		s.fails["away"] = errors.New("the kubelet does not answer")
		s.run(20 * time.Second)
		asked := s.asked["lively"]
		for k := range s.drivers {
			s.ends(k, s)
		}
		s.run(time.Second)
		if got := s.marked(); !slices.Equal(got, []string{"away", "mute"}) || s.count().watched != 0 || s.asked["lively"] != asked {
			t.Errorf("marked are %v, watched %d", got, s.count().watched)
		}
		delete(s.fails, "away")
		s.run(time.Hour)
		if got := s.marked(); !slices.Equal(got, []string{"mute"}) || len(s.drivers) > 0 || !slices.Contains(s.events, "batch DriverTalksAgain") {
			t.Errorf("marked are %v, events %q, kept %d", got, s.events, len(s.drivers))
		}
	})
}

// Nothing can be asked of a pod that is gone.
func TestEndedAndGone(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("gone")
		s.silence("gone")
		s.run(time.Hour)
		s.fails["gone"] = apierrors.NewNotFound(corev1.Resource("pods"), "gone")
		for k := range s.drivers {
			s.ends(k, s)
		}
		if s.run(time.Second); len(s.drivers) > 0 {
			t.Error("kept")
		}
	})
}

func TestWanted(t *testing.T) {
	bubble(t, func(s *simulation) {
		for name, change := range map[string]func(*corev1.Pod){
			"no stamp":     func(pod *corev1.Pod) { pod.Annotations = nil },
			"a forged one": func(pod *corev1.Pod) { pod.Annotations[annotations.LogStallAfter] = "1ms" },
			"executor":     func(pod *corev1.Pod) { pod.Labels[spark.RoleLabel] = "executor" },
			"not running":  func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].State.Running = nil },
			"deleted":      func(pod *corev1.Pod) { now := metav1.Now(); pod.DeletionTimestamp = &now },
		} {
			s.start("d")
			pod := driverPod("d")
			change(pod)
			if s.see(pod, s); len(s.drivers) > 0 {
				t.Errorf("%s: watched", name)
			}
		}
	})
}

// A pod is not kept if a list shows another pod of its name.
func TestReplaced(t *testing.T) {
	bubble(t, func(s *simulation) {
		old, now := driverPod("d"), driverPod("d")
		now.UID = "another"
		s.see(old, s)
		q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]())
		defer q.ShutDown()
		s.watch().Update(t.Context(), event.TypedUpdateEvent[*corev1.Pod]{ObjectOld: old, ObjectNew: now}, q)
		if _, ok := s.drivers[job.KeyOf(now)]; !ok || len(s.drivers) != 1 {
			t.Errorf("kept %v", s.drivers)
		}
	})
}

// If a log is empty, or its last line is from the future, the next leader knows from the
// mark since when it is silent.
func TestUndatedLogAndAnotherLeader(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("rotated", "ahead")
		s.silent = map[string]time.Time{"rotated": {}, "ahead": time.Now().Add(24 * time.Hour)}
		s.run(2 * time.Hour)
		q := newSimulation(t)
		q.silent = s.silent
		for _, name := range s.marked() {
			pod := driverPod(name)
			pod.Annotations[annotations.Stalled] = s.marks[name].String()
			pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(s.began)
			q.see(pod, q)
		}
		q.run(2 * time.Hour)
		if len(q.drivers) != 2 || len(q.events) > 0 || q.written > 0 {
			t.Errorf("of %d new events: %q, marked %d times", len(q.drivers), q.events, q.written)
		}
	})
}

// Little is kept of a pod, whatever its owner writes on it.
func TestStripIsSmall(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"a long mark":  func(pod *corev1.Pod) { pod.Annotations[annotations.Stalled] = strings.Repeat("x", 250<<10) },
		"a long stamp": func(pod *corev1.Pod) { pod.Annotations[annotations.LogStallAfter] = strings.Repeat("x", 250<<10) },
		"many ports": func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, make([]corev1.ContainerPort, 10000)...)
		},
		"not watched": func(pod *corev1.Pod) { delete(pod.Annotations, annotations.LogStallAfter) },
	} {
		pod := driverPod("d")
		change(pod)
		if text, _ := json.Marshal(reading.Pod(pod)); len(text) > 6<<10 {
			t.Errorf("%s: %d bytes are kept", name, len(text))
		}
	}
}

// What is stripped of a pod is not needed.
func TestStrip(t *testing.T) {
	for _, review := range captured.Reviews() {
		if review.Kind() != "Pod" {
			continue
		}
		pod := podOf(review)
		if pod.Labels[spark.RoleLabel] != "driver" {
			continue
		}
		full := driverPod("d")
		full.Spec, full.Labels = pod.Spec, pod.Labels
		before, err := spark.PodOf(full)
		if err != nil {
			t.Fatal(err)
		}
		full.Status.ContainerStatuses[0].Name = before.Container().Name
		l := newLoop(nil, callsPerSecond, slog.New(slog.DiscardHandler))
		stripped, stripAfter, started := l.wanted(reading.Pod(full))
		if started.IsZero() || stripAfter != after || stripped.Container().Name != before.Container().Name {
			t.Errorf("%s: %v %v", review.Name, started, stripAfter)
		}
		was, _ := driverui.Address(before)
		if is, ok := driverui.Address(stripped); !ok || is != was {
			t.Errorf("%s: the UI is at %s, was at %s", review.Name, is, was)
		}
	}
}

func TestMetrics(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.start("quiet")
		s.silence("quiet")
		s.run(time.Hour)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(s.metrics)
		if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP spark_vitals_stalled_drivers Drivers reported as stalled now.
# TYPE spark_vitals_stalled_drivers gauge
spark_vitals_stalled_drivers{confidence="likely",namespace="spark"} 0
spark_vitals_stalled_drivers{confidence="sure",namespace="spark"} 0
spark_vitals_stalled_drivers{confidence="unsure",namespace="spark"} 1
`), "spark_vitals_stalled_drivers"); err != nil {
			t.Error(err)
		}
	})
}

// A day of 2,000 drivers that write each minute, and the time to notice one that
// does not. No API server: what is measured is how often one would be asked.
func BenchmarkDay(b *testing.B) {
	for b.Loop() {
		synctest.Test(&testing.T{}, func(t *testing.T) {
			s := newSimulation(t)
			for i := range 2000 {
				s.start(fmt.Sprint("driver-", i))
			}
			s.run(12 * time.Hour)
			s.silence("driver-7")
			since := time.Now()
			for len(s.marked()) == 0 {
				s.run(time.Minute)
			}
			b.ReportMetric(time.Since(since).Minutes(), "min-to-notice")
			calls := 0
			for _, n := range s.asked {
				calls += n
			}
			b.ReportMetric(float64(calls)/time.Since(s.began).Seconds(), "calls/s")
		})
	}
}
