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
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

const after = 30 * time.Minute

const callsPerSecond = 10

// play is a world of drivers that write a line each minute until they are told to
// be silent. It runs by the bubble's clock.
type play struct {
	*loop
	t       *testing.T
	began   time.Time
	silent  map[string]time.Time // since when
	fails   map[string]error
	marks   map[string]*annotations.StallMark
	told    []string
	written int
	once    map[string]bool
	asked   map[string]int
	ui      annotations.UIState
	thread  map[string]string
	next    map[key]time.Time
}

func newPlay(t *testing.T) *play {
	p := &play{t: t, began: time.Now(), silent: map[string]time.Time{}, fails: map[string]error{}, marks: map[string]*annotations.StallMark{}, asked: map[string]int{}, once: map[string]bool{}, next: map[key]time.Time{}, thread: map[string]string{}}
	p.loop = newLoop(p, callsPerSecond, slog.New(slog.DiscardHandler))
	return p
}

func (p *play) Tail(_ context.Context, of spark.Pod, _ int64) (stall.Tail, error) {
	p.asked[of.Name]++
	last := time.Now().Truncate(time.Minute)
	if since, ok := p.silent[of.Name]; ok {
		last = since
	}
	return stall.Tail{Last: last, Thread: p.thread[of.Name]}, p.fails[of.Name]
}

func (p *play) UI(context.Context, spark.Pod) annotations.UIState { return p.ui }

func (p *play) Use(context.Context, spark.Pod) (executors *int, cpu *int64) { return nil, nil }

func (p *play) Mark(_ context.Context, k key, m *annotations.StallMark) error {
	p.written++
	if err := p.fails["mark"]; err != nil {
		return err
	}
	p.marks[k.Name] = m
	return nil
}

func (p *play) Tell(_ context.Context, about key, of *annotations.StallMark, _, reason, _ string) {
	if once := fmt.Sprint(about, of.Since, of.Confidence, reason); !p.once[once] {
		p.told, p.once[once] = append(p.told, about.Name+" "+reason), true
	}
}

func (p *play) Add(k key) { p.next[k] = time.Now() }

// run the loop for a time, as its queue does.
func (p *play) run(d time.Duration) {
	p.t.Helper()
	for end := time.Now().Add(d); ; {
		var first key
		at := end
		for k, due := range p.next {
			if due.Before(at) {
				first, at = k, due
			}
		}
		time.Sleep(time.Until(at))
		if !at.Before(end) {
			return
		}
		result, err := p.Reconcile(p.t.Context(), first)
		if err != nil {
			p.t.Fatal(err)
		}
		delete(p.next, first)
		if result.RequeueAfter > 0 {
			p.next[first] = time.Now().Add(result.RequeueAfter)
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
	p, err := spark.PodOf(pod)
	if err != nil {
		panic(err)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3", HostIP: "10.9.9.9", ContainerStatuses: []corev1.ContainerStatus{
		{Name: p.Container().Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now())}}},
	}}
	return pod
}

func (p *play) start(names ...string) {
	for _, name := range names {
		p.see(driverPod(name), p)
	}
}

// startFor starts drivers that may be silent for so long.
func (p *play) startFor(after time.Duration, names ...string) {
	for _, name := range names {
		pod := driverPod(name)
		pod.Annotations[annotations.LogStallAfter] = after.String()
		p.see(pod, p)
	}
}

// leadsAnew is another process, so long after the drivers began.
func (p *play) leadsAnew(after time.Duration, names ...string) {
	p.loop, p.next = newLoop(p, callsPerSecond, p.log), map[key]time.Time{}
	for _, name := range names {
		pod := driverPod(name)
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(-after))
		if mark := p.marks[name]; mark != nil {
			pod.Annotations[annotations.Stalled] = mark.String()
		}
		p.see(pod, p)
	}
}

// unread: the logs cannot be read from now on.
func (p *play) unread(names ...string) {
	for _, name := range names {
		p.fails[name] = errors.New("its kubelet does not answer")
	}
}

func (p *play) silence(names ...string) {
	for _, name := range names {
		p.silent[name] = time.Now()
	}
}

func (p *play) marked() (names []string) {
	for name, mark := range p.marks {
		if mark != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func bubble(t *testing.T, f func(*play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newPlay(t)) })
}

func TestReported(t *testing.T) {
	bubble(t, func(p *play) {
		p.thread = map[string]string{"quiet": "dag-scheduler-event-loop"}
		p.start("quiet", "lively")
		p.run(5 * time.Minute)
		p.silence("quiet")
		p.run(after)
		if len(p.marks) > 0 {
			t.Errorf("marked after %s", after)
		}
		p.run(after / 2)
		if got := p.marked(); !slices.Equal(got, []string{"quiet"}) || p.marks["quiet"].Confidence != annotations.Sure {
			t.Fatalf("marked are %v, %v", got, p.marks["quiet"])
		}
		p.run(3 * time.Hour)
		if !slices.Equal(p.told, []string{"quiet DriverStalled"}) {
			t.Errorf("told %q", p.told)
		}
		if n := p.asked["lively"]; n > 8 {
			t.Errorf("a driver that writes was asked %d times in four hours", n)
		}
		delete(p.silent, "quiet")
		p.run(10 * time.Minute)
		if got := p.marked(); len(got) > 0 || !slices.Equal(p.told, []string{"quiet DriverStalled", "quiet DriverTalksAgain"}) {
			t.Errorf("it talks again: marked are %v, told %q", got, p.told)
		}
	})
}

// What is seen of a marked driver is judged anew; it is told again only when that
// is more sure, and what is not known changes nothing.
func TestJudgedAnew(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("warn")
		p.silence("warn")
		for _, c := range []struct {
			ui   annotations.UIState
			want annotations.Confidence
			told int
		}{
			{annotations.UIAnswers, annotations.Unsure, 1}, {annotations.UISilent, annotations.Likely, 2}, {annotations.UIUnknown, annotations.Likely, 2}, {annotations.UIAnswers, annotations.Unsure, 2},
		} {
			p.ui = c.ui
			p.run(time.Hour)
			if mark := p.marks["warn"]; mark == nil || mark.Confidence != c.want || len(p.told) != c.told {
				t.Fatalf("the UI is %q: %s, told %q", c.ui, mark, p.told)
			}
		}
		if got := p.count().stalled["spark"]; got[annotations.Unsure] != 1 || got[annotations.Likely] != 0 {
			t.Errorf("counted %v", got)
		}
	})
}

func TestUnknownIsNotSilent(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("away")
		p.fails["away"] = errors.New("the kubelet does not answer")
		p.silence("away")
		p.run(5 * time.Hour)
		if len(p.marked()) > 0 || p.count().unknown != 1 {
			t.Errorf("marked are %v, unknown %d", p.marked(), p.count().unknown)
		}
		delete(p.fails, "away")
		p.run(time.Hour)
		if len(p.marked()) != 1 || p.count().unknown != 0 {
			t.Errorf("marked are %v, unknown %d", p.marked(), p.count().unknown)
		}
	})
}

// What cannot be written is told all the same, and written later.
func TestMarkIsTriedAgain(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("quiet", "batch")
		p.silence("quiet", "batch")
		refused := errors.New("a guard refuses it")
		p.fails["mark"] = refused
		p.run(2 * time.Hour)
		stalls := testutil.ToFloat64(p.metrics.stalls.WithLabelValues("spark", string(annotations.Unsure)))
		if n := p.count(); len(p.told) != 2 || n.unwritten != 2 || n.stalled["spark"][annotations.Unsure] != 2 || stalls != 2 {
			t.Errorf("told %q, counted %v and %v", p.told, n, stalls)
		}
		delete(p.fails, "mark")
		p.run(10 * time.Minute)
		if len(p.marked()) != 2 || len(p.told) != 2 || p.count().unwritten != 0 {
			t.Errorf("marked are %v, told %q", p.marked(), p.told)
		}

		// Also the end of a mark, and where the driver ends meanwhile.
		p.fails["mark"] = refused
		p.silent = nil
		p.run(10 * time.Minute)
		p.ends(job.KeyOf(driverPod("batch")), p)
		p.run(10 * time.Minute)
		if n := p.count(); n.unwritten != 2 || len(p.told) != 4 {
			t.Errorf("told %q, counted %v", p.told, n)
		}
		delete(p.fails, "mark")
		p.run(10 * time.Minute)
		if len(p.marked()) > 0 || p.count().unwritten != 0 || len(p.drivers) != 1 {
			t.Errorf("marked are %v, kept %d", p.marked(), len(p.drivers))
		}
	})
}

func TestSuspectsItself(t *testing.T) {
	bubble(t, func(p *play) {
		var all []string
		for i := range 9 {
			all = append(all, fmt.Sprint("driver-", i))
		}
		p.start(all...)
		p.run(7 * time.Minute)
		p.silence(all[:6]...)
		p.run(5 * time.Hour)
		if got := p.marked(); len(got) > 0 || p.count().held["spark"] != 6 {
			t.Fatalf("marked are %v, held %v", got, p.count().held)
		}
		for _, name := range all[:3] { // logs arrive again; three hang after all
			delete(p.silent, name)
		}
		p.run(time.Hour)
		if got := p.marked(); !slices.Equal(got, all[3:6]) || p.count().held["spark"] != 0 {
			t.Errorf("marked are %v", got)
		}
	})
}

// crowd of drivers that may be silent for so long. At fewCalls a look at each
// takes eleven minutes.
func crowd(after time.Duration) (pods []*corev1.Pod) {
	for i := range 100 {
		pod := driverPod(fmt.Sprint("d-", i))
		pod.Annotations[annotations.LogStallAfter] = after.String()
		pods = append(pods, pod)
	}
	return pods
}

const fewCalls = 0.3 // a second

func (p *play) watchSlowly(pods []*corev1.Pod) {
	p.loop = newLoop(p, fewCalls, p.log)
	for _, pod := range pods {
		p.see(pod, p)
	}
}

// Of a crowd none is marked before all were looked at, nor by a new leader.
func TestCrowdIsSeenSlowly(t *testing.T) {
	for _, after := range []time.Duration{time.Minute, 10 * time.Minute, 30 * time.Minute} {
		bubble(t, func(p *play) {
			pods := crowd(after)
			p.watchSlowly(pods)
			p.run(2 * after)
			for _, pod := range pods {
				p.silence(pod.Name)
			}
			p.run(after + time.Hour)
			q := newPlay(t)
			q.silent = p.silent
			q.watchSlowly(pods)
			q.run(time.Hour)
			if len(p.told) > 0 || len(q.told) > 0 || p.count().held["spark"] < 50 || q.count().held["spark"] < 50 {
				t.Errorf("%s: told %q, held %v; a new leader told %q, held %v", after, p.told, p.count().held, q.told, q.count().held)
			}
		})
	}
}

// Who is late for a look, and wrote since others fell silent, is none of their crowd.
func TestLateIsNotSilent(t *testing.T) {
	bubble(t, func(p *play) {
		pods := crowd(time.Minute)
		p.watchSlowly(pods)
		p.run(10 * time.Minute)
		for _, pod := range pods[:30] {
			p.silence(pod.Name)
		}
		if p.run(2 * time.Hour); len(p.marked()) < 25 {
			t.Errorf("marked are %v, held %v", p.marked(), p.count().held)
		}
	})
}

// While more than half are late for a look, nothing is said, nor taken back.
func TestWaitsForTheLate(t *testing.T) {
	for _, silent := range []bool{true, false} {
		bubble(t, func(p *play) {
			marked, since := driverPod("e"), time.Now().Add(-time.Hour)
			marked.Annotations[annotations.Stalled] = stall.NewMark(since, time.Now(), annotations.StallEvidence{LastLine: since}).String()
			p.silent["e"] = since
			p.see(marked, p)
			p.start("a", "b", "c", "d", "f", "g", "h", "i")
			p.silence("a")
			late := []string{"b", "c", "d", "f", "g", "h", "i"}
			for _, name := range late {
				p.next[job.KeyOf(driverPod(name))] = time.Now().Add(2 * time.Hour)
			}
			if silent {
				p.silence(late...)
			}
			if p.run(119 * time.Minute); p.written > 0 || len(p.told) > 0 || p.count().held["spark"] > 0 {
				t.Errorf("told %q, held %v", p.told, p.count().held)
			}
			p.run(30 * time.Minute)
			if got := p.marked(); silent && len(got) > 0 || !silent && !slices.Equal(got, []string{"a"}) {
				t.Errorf("marked are %v", got)
			}
		})
	}
}

// Whose log cannot be read neither talks for a crowd nor keeps anyone waiting.
func TestUnreadIsNotCounted(t *testing.T) {
	hang, others := []string{"a", "b", "c", "d", "e"}, []string{"f", "g", "h", "i", "j", "k", "l"}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		play         func(*play)
		marked, held int
	}{
		"most that can be read are silent": {play: func(p *play) {
			p.start(slices.Concat(hang, others)...)
			p.run(7 * time.Minute)
			p.silence(hang...)
			p.unread(others[2:]...)
		}, held: 5},
		"most that can be read talk": {play: func(p *play) {
			p.start(slices.Concat(hang, others)...)
			p.run(7 * time.Minute)
			p.silence(hang...)
			p.unread(others[6:]...)
		}, marked: 5},
		"they talked for long before": {play: func(p *play) {
			p.startFor(day, hang...)
			p.startFor(time.Hour, others...)
			p.run(time.Hour)
			p.silence(hang...)
			p.run(20 * time.Hour)
			p.unread(others...)
		}, marked: 5},
		"after the marks": {play: func(p *play) {
			p.startFor(day, slices.Concat(hang, others)...)
			p.run(time.Hour)
			p.silence(hang...)
			p.run(2 * day)
			p.unread(others...)
		}, marked: 5},
		"a new leader": {play: func(p *play) {
			p.start(slices.Concat(hang, others)...)
			p.run(time.Hour)
			p.silence(hang...)
			p.run(time.Hour)
			p.unread(others...)
			p.leadsAnew(2*time.Hour, slices.Concat(hang, others)...)
		}, marked: 5},
		"silent before": {play: func(p *play) {
			p.start(slices.Concat(hang, others[:4])...)
			p.run(7 * time.Minute)
			p.silence(hang...)
			p.run(32 * time.Minute) // looked at once
			p.unread(hang[1:]...)
		}, marked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(p *play) {
				c.play(p)
				p.run(2 * day)
				withdrawn := slices.ContainsFunc(p.told, func(told string) bool { return strings.HasSuffix(told, "StallWithdrawn") })
				if got := p.marked(); len(got) != c.marked || p.count().held["spark"] != c.held || withdrawn {
					t.Errorf("marked are %v, held %v, told %q", got, p.count().held, p.told)
				}
			})
		})
	}
}

// Who began after another fell silent keeps nobody waiting.
func TestBeganLater(t *testing.T) {
	bubble(t, func(p *play) {
		p.startFor(3*time.Hour, "a", "b", "c", "d", "e")
		p.silence("a", "b", "c", "d", "e")
		p.run(2 * time.Hour)
		late := []string{"f", "g", "h", "i", "j", "k"}
		p.startFor(time.Minute, late...)
		for _, name := range late {
			p.next[job.KeyOf(driverPod(name))] = time.Now().Add(100 * time.Hour)
		}
		if p.run(2 * time.Hour); len(p.marked()) != 5 {
			t.Errorf("marked are %v, held %v", p.marked(), p.count().held)
		}
	})
}

// Who fell silent at another time is none of a crowd, and nor is one whose log
// says what it died of.
func TestOutsideOfACrowd(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("a", "b", "c", "d", "e", "f", "g", "h")
		p.silence("a", "b", "c", "d", "e")
		p.run(3 * time.Hour)
		p.silence("f")
		p.thread = map[string]string{"a": "dag-scheduler-event-loop", "f": "Thread-9"}
		p.run(time.Hour)
		if got := p.marked(); !slices.Equal(got, []string{"a", "f"}) || p.count().held["spark"] != 4 {
			t.Errorf("marked are %v, held %v", got, p.count().held)
		}
	})
}

// However many drivers a namespace has, and whatever they do, half of the calls
// are left to others.
func TestOneNamespaceTakesHalf(t *testing.T) {
	bubble(t, func(p *play) {
		for i := range 200 {
			pod := driverPod(fmt.Sprint("d-", i))
			pod.Annotations[annotations.LogStallAfter] = "1m"
			p.see(pod, p)
			p.thread[pod.Name] = "JobGenerator" // never held back
		}
		for range 10 { // writes a line now and then, and is told anew
			for i := range 200 {
				p.silence(fmt.Sprint("d-", i))
			}
			p.run(2 * time.Minute)
		}
		looks := 0
		for _, n := range p.asked {
			looks += n
		}
		if calls := float64(looks+2*p.written) / time.Since(p.began).Seconds(); calls > callsPerSecond/2+.1 || calls < callsPerSecond/4 {
			t.Errorf("%.1f calls a second", calls)
		}
	})
}

// One silent driver of many in most namespaces is no crowd.
func TestSilentInManyNamespaces(t *testing.T) {
	bubble(t, func(p *play) {
		for n := range 8 {
			for i := range 10 {
				pod := driverPod(fmt.Sprintf("d-%d-%d", n, i))
				pod.Namespace = fmt.Sprint("team-", n)
				p.see(pod, p)
			}
			p.silence(fmt.Sprintf("d-%d-0", n))
		}
		p.run(time.Hour)
		if got := p.marked(); len(got) != 8 {
			t.Errorf("marked are %v, held %v", got, p.count().held)
		}
	})
}

// Those that were told before the others fell silent are withdrawn.
func TestWithdrawn(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("a", "b", "c", "d", "e")
		p.silence("a")
		p.run(5 * time.Minute)
		p.silence("b", "c", "d", "e")
		p.run(4 * time.Hour)
		if got := p.marked(); len(got) > 0 || !slices.Contains(p.told, "a StallWithdrawn") {
			t.Errorf("marked are %v, told %q", got, p.told)
		}
	})
}

func TestRestarts(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("quiet", "again")
		p.silence("quiet", "again")
		p.run(time.Hour)
		if len(p.marked()) != 2 {
			t.Fatalf("marked are %v", p.marked())
		}
		p.run(20 * time.Minute)
		// The container: its log begins anew.
		delete(p.silent, "again")
		p.see(driverPod("again"), p)
		if p.run(time.Second); !slices.Equal(p.marked(), []string{"quiet"}) {
			t.Errorf("after the restart, marked are %v", p.marked())
		}
		// The watch: it finds the mark on the pod and tells nothing twice.
		q := newPlay(t)
		q.silent = p.silent
		q.marks["quiet"] = p.marks["quiet"]
		pod := driverPod("quiet")
		pod.Annotations[annotations.Stalled] = p.marks["quiet"].String()
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(p.began)
		q.see(pod, q)
		q.run(time.Hour)
		if len(q.told) > 0 || len(q.marked()) != 1 {
			t.Errorf("told anew: %q", q.told)
		}
		p.run(time.Hour)
		if got := p.marked(); !slices.Equal(got, []string{"quiet"}) {
			t.Errorf("marked are %v", got)
		}
	})
}

// One that talks and ends before it is due is looked at once more, and so loses
// the mark; one that ended without a word keeps it.
func TestEnded(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("batch", "mute", "away", "lively")
		p.silence("batch", "mute", "away")
		p.run(time.Hour)
		for _, name := range []string{"batch", "away"} { // write their last lines
			p.silent[name] = time.Now()
		}
		p.fails["away"] = errors.New("the kubelet does not answer")
		p.run(20 * time.Second)
		asked := p.asked["lively"]
		for k := range p.drivers {
			p.ends(k, p)
		}
		p.run(time.Second)
		if got := p.marked(); !slices.Equal(got, []string{"away", "mute"}) || p.count().watched != 0 || p.asked["lively"] != asked {
			t.Errorf("marked are %v, watched %d", got, p.count().watched)
		}
		delete(p.fails, "away")
		p.run(time.Hour)
		if got := p.marked(); !slices.Equal(got, []string{"mute"}) || len(p.drivers) > 0 || !slices.Contains(p.told, "batch DriverTalksAgain") {
			t.Errorf("marked are %v, told %q, kept %d", got, p.told, len(p.drivers))
		}
	})
}

// Of a pod that is gone there is nothing to ask.
func TestEndedAndGone(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("gone")
		p.silence("gone")
		p.run(time.Hour)
		p.fails["gone"] = apierrors.NewNotFound(corev1.Resource("pods"), "gone")
		for k := range p.drivers {
			p.ends(k, p)
		}
		if p.run(time.Second); len(p.drivers) > 0 {
			t.Error("kept")
		}
	})
}

func TestWanted(t *testing.T) {
	bubble(t, func(p *play) {
		for name, change := range map[string]func(*corev1.Pod){
			"no stamp":     func(pod *corev1.Pod) { pod.Annotations = nil },
			"a forged one": func(pod *corev1.Pod) { pod.Annotations[annotations.LogStallAfter] = "1ms" },
			"executor":     func(pod *corev1.Pod) { pod.Labels[spark.RoleLabel] = "executor" },
			"not running":  func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].State.Running = nil },
			"deleted":      func(pod *corev1.Pod) { now := metav1.Now(); pod.DeletionTimestamp = &now },
		} {
			p.start("d")
			pod := driverPod("d")
			change(pod)
			if p.see(pod, p); len(p.drivers) > 0 {
				t.Errorf("%s: watched", name)
			}
		}
	})
}

// A pod that a list has shown to be replaced by one of its name is not kept.
func TestReplaced(t *testing.T) {
	bubble(t, func(p *play) {
		old, now := driverPod("d"), driverPod("d")
		now.UID = "another"
		p.see(old, p)
		q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]())
		defer q.ShutDown()
		p.watch().Update(t.Context(), event.TypedUpdateEvent[*corev1.Pod]{ObjectOld: old, ObjectNew: now}, q)
		if _, ok := p.drivers[job.KeyOf(now)]; !ok || len(p.drivers) != 1 {
			t.Errorf("kept %v", p.drivers)
		}
	})
}

// Of a log that is empty, or whose last line is from the future, the next leader
// knows since when it is silent by the mark.
func TestUndatedLogAndAnotherLeader(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("rotated", "ahead")
		p.silent = map[string]time.Time{"rotated": {}, "ahead": time.Now().Add(24 * time.Hour)}
		p.run(2 * time.Hour)
		q := newPlay(t)
		q.silent = p.silent
		for _, name := range p.marked() {
			pod := driverPod(name)
			pod.Annotations[annotations.Stalled] = p.marks[name].String()
			pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(p.began)
			q.see(pod, q)
		}
		q.run(2 * time.Hour)
		if len(q.drivers) != 2 || len(q.told) > 0 || q.written > 0 {
			t.Errorf("of %d told anew: %q, marked %d times", len(q.drivers), q.told, q.written)
		}
	})
}

// Whatever its owner writes on it, little is kept of a pod.
func TestStripIsSmall(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"a long mark":  func(p *corev1.Pod) { p.Annotations[annotations.Stalled] = strings.Repeat("x", 250<<10) },
		"a long stamp": func(p *corev1.Pod) { p.Annotations[annotations.LogStallAfter] = strings.Repeat("x", 250<<10) },
		"many ports": func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, make([]corev1.ContainerPort, 10000)...)
		},
		"not watched": func(p *corev1.Pod) { delete(p.Annotations, annotations.LogStallAfter) },
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
		was, _ := uiOf(before)
		if is, ok := uiOf(stripped); !ok || is != was {
			t.Errorf("%s: the UI is at %s, was at %s", review.Name, is, was)
		}
	}
}

func TestMetrics(t *testing.T) {
	bubble(t, func(p *play) {
		p.start("quiet")
		p.silence("quiet")
		p.run(time.Hour)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(p.metrics)
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
			p := newPlay(t)
			for i := range 2000 {
				p.start(fmt.Sprint("driver-", i))
			}
			p.run(12 * time.Hour)
			p.silence("driver-7")
			since := time.Now()
			for len(p.marked()) == 0 {
				p.run(time.Minute)
			}
			b.ReportMetric(time.Since(since).Minutes(), "min-to-notice")
			calls := 0
			for _, n := range p.asked {
				calls += n
			}
			b.ReportMetric(float64(calls)/time.Since(p.began).Seconds(), "calls/s")
		})
	}
}
