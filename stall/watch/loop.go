package watch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

// cluster is what the loop reads from and reports to. An error means that nothing is
// known.
type cluster interface {
	// Tail returns the last lines of a log.
	Tail(ctx context.Context, of spark.Pod, lines int64) (stall.Tail, error)
	// UI calls the UI, and again if it does not answer.
	UI(context.Context, spark.Pod) annotations.UIState
	// Tasks and Threads ask the UI. They return nil if it is not known.
	Tasks(context.Context, spark.Pod) *driverui.Tasks
	Threads(context.Context, spark.Pod) []stall.Thread
	// Answer asks the UI for data.
	Answer(context.Context, spark.Pod) driverui.Answer
	// Log returns the log's last lines, of so long ago at most, with timestamps.
	Log(ctx context.Context, of spark.Pod, within time.Duration) (string, error)
	// Usage returns the number of running executors and the millicores; nil if not known.
	Usage(context.Context, spark.Pod) (executors *int, cpu *int64)
	// WriteMark writes a driver's mark, or removes it if it is nil. It is not an error if
	// the driver is gone.
	WriteMark(context.Context, key, *annotations.StallMark) error
	// EmitEvent creates an Event on a driver, but not again for the same silence with the
	// same confidence.
	EmitEvent(ctx context.Context, on key, of *annotations.StallMark, kind, reason, text string)
}

type loop struct {
	cluster cluster
	metrics *metrics
	log     *slog.Logger
	calls   rate.Limit // a second, for each namespace

	lock     sync.Mutex // of what follows, and of the drivers; not held during calls
	drivers  map[key]*driver
	limiters map[string]*rate.Limiter // of the calls for a namespace, and of the questions to its UIs
	asking   map[string]int           // how many UIs of a namespace are asked now
}

// newLoop gives each namespace at most half of all calls, so none can take them all.
func newLoop(c cluster, callsPerSecond float32, log *slog.Logger) *loop {
	l := &loop{cluster: c, log: log, calls: rate.Limit(callsPerSecond / 2), drivers: map[key]*driver{}, limiters: map[string]*rate.Limiter{}, asking: map[string]int{}}
	l.metrics = newMetrics(l.count)
	return l
}

// together is how far apart the last lines of drivers may be that fell silent together.
// If logs no longer arrive, the last lines are as far apart as drivers write.
const together = 30 * time.Minute

// writeAgain is after how long the stall watch tries again to write a mark.
const writeAgain = 5 * time.Minute

// lastLines is how many lines are read of a silent log.
const lastLines = 50

// Reconcile reads a driver's log or asks its UI, whichever is due, and returns when it is
// due next.
func (l *loop) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	l.lock.Lock()
	d := l.drivers[k]
	if d == nil {
		l.lock.Unlock()
		return reconcile.Result{}, nil
	}
	pod, track, heap, ended, lines := d.Pod, d.track, d.heap, d.ended, int64(1)
	if track.IsSilent() {
		lines = lastLines
	}
	untilRead, untilAsked := time.Until(track.Due()), heap.wait(ended)
	l.lock.Unlock()
	if wait := min(untilRead, untilAsked); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	limit := k.Namespace
	if untilRead > 0 {
		limit += "/ui" // questions delay no look
	}
	if !l.limiter(limit).Allow() {
		return reconcile.Result{RequeueAfter: time.Second + rand.N(9*time.Second)}, nil
	}
	if untilRead > 0 {
		if !l.mayAsk(k.Namespace) {
			return reconcile.Result{RequeueAfter: time.Second + rand.N(9*time.Second)}, nil
		}
		defer l.asked(k.Namespace)
		l.askHeap(ctx, k, d, pod, heap)
		return l.again(track, heap, ended), nil
	}
	l.metrics.late.Observe(-untilRead.Seconds())
	tail, err := l.cluster.Tail(ctx, pod, lines)
	verdict := l.saw(k, d, track, tail, err)
	if err == nil && d.mark != nil && !d.mark.IsOfHeap() && !d.mark.Is(track.Heard()) {
		l.unmark(ctx, k, d, "The driver logs again: it is no longer reported as stalled.")
	} else if d.unwritten {
		l.writeMark(ctx, k, d, d.mark)
		if d.mark != nil {
			l.reportStall(ctx, k, d.mark)
		}
	}
	if ended && !d.unwritten && (err == nil || apierrors.IsNotFound(err)) {
		l.remove(k)
		return reconcile.Result{}, nil
	}
	if verdict == stall.Silent && !ended && !d.held {
		l.countTasks(ctx, d, pod)
	}
	if verdict == stall.Stalled && !ended {
		l.stalled(ctx, k, d, pod, track.Heard(), tail)
	}
	return l.again(track, heap, ended), nil
}

// A silent UI takes a worker for 15 s. So many questions leave workers for logs, and none
// of the namespaces takes all of them.
const askAtOnce, askAtOnceOfNamespace = 4, 2

// mayAsk reports whether a UI of a namespace may be asked now. The caller then calls
// asked.
func (l *loop) mayAsk(namespace string) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	all := 0
	for _, n := range l.asking {
		all += n
	}
	if all >= askAtOnce || l.asking[namespace] >= askAtOnceOfNamespace {
		return false
	}
	l.asking[namespace]++
	return true
}

func (l *loop) asked(namespace string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.asking[namespace]--; l.asking[namespace] == 0 {
		delete(l.asking, namespace)
	}
}

// again returns when a driver is due next. Not at once, so a call that takes no time does
// not make it spin.
func (l *loop) again(t *stall.Track, h *heap, ended bool) reconcile.Result {
	l.lock.Lock()
	defer l.lock.Unlock()
	return reconcile.Result{RequeueAfter: max(min(time.Until(t.Due()), h.wait(ended)), time.Millisecond)}
}

// A report takes so many calls from a namespace's limit, and delays its next looks. No
// report waits.
const (
	callsToReport = 4 // executors, CPU, mark, Event
	callsToUnmark = 2 // mark, Event
	callsAtOnce   = 10
)

func (l *loop) limiter(namespace string) *rate.Limiter {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.limiters[namespace] == nil {
		l.limiters[namespace] = rate.NewLimiter(l.calls, callsAtOnce)
	}
	return l.limiters[namespace]
}

func (l *loop) saw(k key, d *driver, t *stall.Track, tail stall.Tail, err error) stall.Verdict {
	l.lock.Lock()
	defer l.lock.Unlock()
	now := time.Now()
	if err != nil {
		t.Failed(now)
		if !d.failed {
			l.log.Warn("a driver's log cannot be read, so it is not known whether it is silent", "pod", k.NamespacedName, "error", err)
		}
		d.failed = true
		l.metrics.looks.WithLabelValues(unknown).Inc()
		return stall.Unclear
	}
	d.failed = false
	verdict := t.Saw(now, tail.Last)
	if verdict != stall.Stalled {
		d.held = false
	}
	l.metrics.looks.WithLabelValues(outcomes[verdict]).Inc()
	return verdict
}

var outcomes = map[stall.Verdict]string{stall.Unclear: "empty", stall.Talks: "talks", stall.Silent: "silent", stall.Stalled: "stalled"}

// unknown is the outcome of a look at a log that could not be read.
const unknown = "unknown"

// stalled marks a driver, unless it is a mass silence or may be one. A death that the
// log names is never held: it does not come from a log that does not arrive. A marked
// driver is judged again at each look, and reported again if it is more sure. If its UI
// can no longer be reached, that changes nothing: a UI that does not answer soon
// accepts no connections either.
func (l *loop) stalled(ctx context.Context, k key, d *driver, pod spark.Pod, since time.Time, tail stall.Tail) {
	mark := d.mark
	if mark.IsOfHeap() && !tail.IsSure() { // says more than that it is silent
		return
	}
	held, mayMark := l.judge(k, d, tail.IsSure())
	if held && mark != nil {
		l.writeMark(ctx, k, d, nil)
		l.cluster.EmitEvent(ctx, k, mark, normal, "StallWithdrawn", "Too many drivers fell silent together, so the fault is more likely outside of them.")
	}
	if !mayMark {
		return
	}
	evidence := annotations.StallEvidence{LastLine: tail.Last, Thread: tail.Thread, Error: tail.Error, Stopped: tail.Stopped, UI: l.cluster.UI(ctx, pod)}
	if mark != nil && evidence.UI == annotations.UIUnknown {
		evidence.UI = mark.Evidence.UI
	}
	if evidence.UI == annotations.UIAnswers {
		evidence.Threads = l.threads(ctx, d, pod)
	}
	if evidence.Threads != nil && stall.Works(evidence.Threads) && !tail.Stopped && tail.Thread == "" {
		l.works(ctx, k, d)
		return
	}
	if stall.Judge(evidence) == confidence(mark) {
		return
	}
	l.limiter(k.Namespace).ReserveN(time.Now(), callsToReport)
	evidence.Executors, evidence.CPU = l.cluster.Usage(ctx, pod)
	l.report(ctx, k, d, stall.NewMark(since, time.Now(), evidence))
}

// report marks a driver. It is reported if that is more sure than its mark was.
func (l *loop) report(ctx context.Context, k key, d *driver, mark *annotations.StallMark) {
	before := confidence(d.mark)
	l.writeMark(ctx, k, d, mark)
	if mark.Confidence.Above(before) {
		l.metrics.stalls.WithLabelValues(k.Namespace, string(mark.Confidence)).Inc()
		l.log.Info("stalled", "pod", k.NamespacedName, "uid", k.UID, "since", mark.Since, "confidence", mark.Confidence, "message", mark.Message)
		l.reportStall(ctx, k, mark)
	}
}

// confidence returns that of a mark; none if there is no mark.
func confidence(m *annotations.StallMark) annotations.Confidence {
	if m == nil {
		return ""
	}
	return m.Confidence
}

// threads returns what a driver's threads do; nil if not known. A driver that has started
// tasks since the last look works, although none may run now.
func (l *loop) threads(ctx context.Context, d *driver, pod spark.Pod) *annotations.Threads {
	before, running := d.tasks, int64(-1)
	l.countTasks(ctx, d, pod)
	if d.tasks != nil {
		running = d.tasks.Running
		if before != nil && before.Started < d.tasks.Started {
			running = max(running, 1)
		}
	}
	found := stall.LookAt(l.cluster.Threads(ctx, pod), running)
	if found.Do == "" {
		return nil
	}
	return &found
}

// askAgain is how long a driver is not asked for its tasks that did not answer.
const askAgain = 10 * time.Minute

// countTasks asks a driver for its tasks.
func (l *loop) countTasks(ctx context.Context, d *driver, pod spark.Pod) {
	if time.Now().Before(d.silentUI) {
		return
	}
	if d.tasks = l.cluster.Tasks(ctx, pod); d.tasks == nil {
		d.silentUI = time.Now().Add(askAgain)
	}
}

// works removes the mark of a driver that works although its log is silent.
func (l *loop) works(ctx context.Context, k key, d *driver) {
	if d.mark == nil {
		return
	}
	mark := d.mark
	l.writeMark(ctx, k, d, nil)
	l.log.Info("works, although its log is silent", "pod", k.NamespacedName, "uid", k.UID, "since", mark.Since)
	l.cluster.EmitEvent(ctx, k, mark, normal, "StallWithdrawn", "The driver works, or waits for its users, although its log is silent.")
}

func (l *loop) reportStall(ctx context.Context, k key, mark *annotations.StallMark) {
	l.cluster.EmitEvent(ctx, k, mark, warning, "DriverStalled", mark.Message)
}

// unmark removes the mark of a driver that logs again, or whose UI gives data again.
func (l *loop) unmark(ctx context.Context, k key, d *driver, text string) {
	mark := d.mark
	l.limiter(k.Namespace).ReserveN(time.Now(), callsToUnmark)
	l.writeMark(ctx, k, d, nil)
	l.log.Info("talks again", "pod", k.NamespacedName, "uid", k.UID, "since", mark.Since)
	l.cluster.EmitEvent(ctx, k, mark, normal, "DriverTalksAgain", text)
}

// writeMark marks a driver, or removes its mark if it is nil. If the mark cannot be written, the
// driver is still reported, and the write is tried again soon.
func (l *loop) writeMark(ctx context.Context, k key, d *driver, mark *annotations.StallMark) {
	err := l.cluster.WriteMark(ctx, k, mark)
	l.lock.Lock()
	defer l.lock.Unlock()
	d.mark, d.unwritten = mark, err != nil
	if err != nil {
		l.log.Warn("a driver's mark could not be written; the stall watch tries again", "pod", k.NamespacedName, "error", err)
		d.track.AskAt(time.Now().Add(writeAgain))
	}
}

// judge reports whether a stalled driver is held in a mass silence: it is not marked, and
// its mark is withdrawn if the mass silence is certain. mayMark is whether it may be
// marked. While many drivers that may be silent were not read yet, neither is true. A
// driver that surely hangs is never held.
func (l *loop) judge(k key, d *driver, sure bool) (held, mayMark bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if sure {
		d.held = false
		return false, true
	}
	now, reported := time.Now(), false
	var watched []stall.Watched
	for other, o := range l.drivers {
		reported = reported || o.held && other.Namespace == k.Namespace
		if !o.ended {
			watched = append(watched, stall.Watched{Namespace: other.Namespace, State: o.compare(d.track, now)})
		}
	}
	mass := stall.MassSilenceOf(watched, k.Namespace)
	d.held = mass == stall.Certain || mass == stall.Probable && d.mark == nil
	if d.held && !reported {
		l.log.Error("too many drivers fell silent together, so none of them is marked. Their logs may not arrive, a service that they all need may be away, or they are idle", "namespace", k.Namespace)
	}
	return d.held, mass == stall.None
}

// compare returns the state of a driver, compared with a silent log. If its log was
// written a while after the silence began, it did not fall silent too, whether or not it
// can be read now. It may be late because so many drivers are due at once that it takes
// minutes to read them.
func (d *driver) compare(silent *stall.Track, now time.Time) stall.State {
	apart := d.track.Heard().Sub(silent.Heard())
	heardSince := apart >= min(silent.After, together)
	switch {
	case d.failed && !heardSince:
		return stall.Unread
	case !d.track.IsSilent() && now.After(d.track.Due()) && !heardSince:
		return stall.Late
	case d.track.IsSilent() && apart.Abs() <= together:
		return stall.FellSilent
	}
	return stall.Logs
}
