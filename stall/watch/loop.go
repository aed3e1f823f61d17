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
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

// world is what the loop reads from and reports to. An error means that nothing is
// known.
type world interface {
	// Tail returns the last lines of a log.
	Tail(ctx context.Context, of spark.Pod, lines int64) (stall.Tail, error)
	// UI calls the UI, and again if it does not answer.
	UI(context.Context, spark.Pod) annotations.UIState
	// Use returns the number of running executors and the millicores; nil if not known.
	Use(context.Context, spark.Pod) (executors *int, cpu *int64)
	// Mark writes a driver's mark, or removes it if it is nil. It is not an error if the
	// driver is gone.
	Mark(context.Context, key, *annotations.StallMark) error
	// Tell reports a driver. It does not report the same silence with the same
	// confidence again.
	Tell(ctx context.Context, about key, of *annotations.StallMark, kind, reason, text string)
}

type loop struct {
	world   world
	metrics *metrics
	log     *slog.Logger

	lock    sync.Mutex // not held during calls
	drivers map[key]*driver
	rooms   map[string]*rate.Limiter // of namespaces, in calls
	calls   rate.Limit               // a second, for each
}

// newLoop gives each namespace at most half of all calls, so none can take them all.
func newLoop(w world, callsPerSecond float32, log *slog.Logger) *loop {
	l := &loop{world: w, log: log, drivers: map[key]*driver{}, rooms: map[string]*rate.Limiter{}, calls: rate.Limit(callsPerSecond / 2)}
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

// Reconcile reads a driver's log if it is due, and returns when it is due next.
func (l *loop) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	l.lock.Lock()
	d := l.drivers[k]
	if d == nil {
		l.lock.Unlock()
		return reconcile.Result{}, nil
	}
	pod, track, ended, lines := d.Pod, d.track, d.ended, int64(1)
	if track.IsSilent() {
		lines = lastLines
	}
	wait := time.Until(track.Due())
	l.lock.Unlock()
	if wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if !l.room(k.Namespace).Allow() {
		return reconcile.Result{RequeueAfter: time.Second + rand.N(9*time.Second)}, nil
	}
	l.metrics.late.Observe(-wait.Seconds())
	tail, err := l.world.Tail(ctx, pod, lines)
	verdict := l.saw(k, d, track, tail, err)
	if err == nil && d.mark != nil && !d.mark.Is(track.Heard()) {
		l.talks(ctx, k, d)
	} else if d.unwritten {
		l.mark(ctx, k, d, d.mark)
		if d.mark != nil {
			l.tell(ctx, k, d.mark)
		}
	}
	if ended && !d.unwritten && (err == nil || apierrors.IsNotFound(err)) {
		l.forget(k)
		return reconcile.Result{}, nil
	}
	if verdict == stall.Stalled && !ended {
		l.stalled(ctx, k, d, pod, track.Heard(), tail)
	}
	// Not at once, so a call that takes no time does not make it spin.
	return reconcile.Result{RequeueAfter: max(time.Until(l.due(track)), time.Millisecond)}, nil
}

// A report takes so many calls from a namespace's limit, and delays its next looks. No
// report waits.
const (
	callsToReport = 4 // executors, CPU, mark, Event
	callsToUnmark = 2 // mark, Event
	callsAtOnce   = 10
)

func (l *loop) room(namespace string) *rate.Limiter {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.rooms[namespace] == nil {
		l.rooms[namespace] = rate.NewLimiter(l.calls, callsAtOnce)
	}
	return l.rooms[namespace]
}

func (l *loop) due(t *stall.Track) time.Time {
	l.lock.Lock()
	defer l.lock.Unlock()
	return t.Due()
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
	held, report := l.judge(k, d, tail.IsSure())
	if held && mark != nil {
		l.mark(ctx, k, d, nil)
		l.world.Tell(ctx, k, mark, normal, "StallWithdrawn", "Too many drivers fell silent together, so the fault is more likely outside of them.")
	}
	if !report {
		return
	}
	evidence := annotations.StallEvidence{LastLine: tail.Last, Thread: tail.Thread, Error: tail.Error, Stopped: tail.Stopped, UI: l.world.UI(ctx, pod)}
	before := annotations.Confidence("")
	if mark != nil {
		before = mark.Confidence
		if evidence.UI == annotations.UIUnknown {
			evidence.UI = mark.Evidence.UI
		}
	}
	if stall.Judge(evidence) == before {
		return
	}
	l.room(k.Namespace).ReserveN(time.Now(), callsToReport)
	evidence.Executors, evidence.CPU = l.world.Use(ctx, pod)
	mark = stall.NewMark(since, time.Now(), evidence)
	l.mark(ctx, k, d, mark)
	if mark.Confidence.Above(before) {
		l.metrics.stalls.WithLabelValues(k.Namespace, string(mark.Confidence)).Inc()
		l.log.Info("stalled", "pod", k.NamespacedName, "uid", k.UID, "since", mark.Since, "confidence", mark.Confidence, "message", mark.Message)
		l.tell(ctx, k, mark)
	}
}

func (l *loop) tell(ctx context.Context, k key, mark *annotations.StallMark) {
	l.world.Tell(ctx, k, mark, warning, "DriverStalled", mark.Message)
}

func (l *loop) talks(ctx context.Context, k key, d *driver) {
	mark := d.mark
	l.room(k.Namespace).ReserveN(time.Now(), callsToUnmark)
	l.mark(ctx, k, d, nil)
	l.log.Info("talks again", "pod", k.NamespacedName, "uid", k.UID, "since", mark.Since)
	l.world.Tell(ctx, k, mark, normal, "DriverTalksAgain", "The driver logs again: it is no longer reported as stalled.")
}

// mark marks a driver, or unmarks it with nil. If the mark cannot be written, the
// driver is reported all the same, and the write is tried again soon.
func (l *loop) mark(ctx context.Context, k key, d *driver, mark *annotations.StallMark) {
	err := l.world.Mark(ctx, k, mark)
	l.lock.Lock()
	defer l.lock.Unlock()
	d.mark, d.unwritten = mark, err != nil
	if err != nil {
		l.log.Warn("a driver's mark could not be written; the stall watch tries again", "pod", k.NamespacedName, "error", err)
		d.track.AskAt(time.Now().Add(writeAgain))
	}
}

// judge reports whether a stalled driver is held: so many fell silent with it that none
// is marked, and its own mark is withdrawn. report is whether it may be marked. While
// many drivers that may be silent were not read yet, nothing is reported and nothing
// withdrawn.
func (l *loop) judge(k key, d *driver, sure bool) (held, report bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	told := false
	for other, o := range l.drivers {
		told = told || o.held && other.Namespace == k.Namespace
	}
	likely := !sure && l.crowd(k, d, leftOut)
	d.held = likely && (d.mark == nil || l.crowd(k, d, talking))
	if d.held && !told {
		l.log.Error("too many drivers fell silent together, so none of them is marked. Their logs may not arrive, a service that they all need may be away, or they are idle", "namespace", k.Namespace)
	}
	return d.held, sure || !likely && !l.crowd(k, d, silent)
}

// unknowns says how to count drivers for which it is not known whether they fell silent
// too.
type unknowns int

const (
	leftOut unknowns = iota
	talking
	silent // if they are late; those that cannot be read are left out, because that may last
)

// crowd reports whether a driver fell silent in a mass silence.
func (l *loop) crowd(k key, d *driver, as unknowns) bool {
	fell := d.track.Heard()
	talks := fell.Add(min(d.track.After, together))
	return stall.Crowd(func(yield func(stall.Watched) bool) {
		for other, o := range l.drivers {
			unknown := o.unknown(talks)
			if o.ended || unknown && (as == leftOut || as == silent && o.failed) {
				continue
			}
			suspect := o.track.IsSilent() && o.track.Heard().Sub(fell).Abs() <= together
			if unknown {
				suspect = as == silent
			}
			if !yield(stall.Watched{Namespace: other.Namespace, Suspect: suspect}) {
				return
			}
		}
	}, k.Namespace)
}

// unknown reports whether it is not known if the driver fell silent too. Its log cannot
// be read, or it is late: so many may be due at once that it takes minutes. It is known
// if the driver logged at talks or later, or started then.
func (d *driver) unknown(talks time.Time) bool {
	late := !d.track.IsSilent() && time.Now().After(d.track.Due())
	return (d.failed || late) && d.track.Heard().Before(talks)
}
