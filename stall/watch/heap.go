package watch

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

// heap is what is known of the heap of a driver's container. Only the worker that has
// the driver uses it.
type heap struct {
	stall.Heap
	after time.Duration
	due   time.Time // when the UI is asked next
	stale bool      // the driver's mark is of an earlier container
}

func newHeap(after time.Duration, mark *annotations.StallMark, started time.Time) *heap {
	h := &heap{after: after}
	if mark.IsOfHeap() {
		if h.stale = started.After(mark.Found); !h.stale {
			h.Heap = stall.ResumeHeap(mark.Since)
		}
	}
	h.due = time.Now().Add(rand.N(h.Pause(after)))
	return h
}

// wait returns how long to wait before the UI is asked. That of a driver that has ended is
// not asked.
func (h *heap) wait(ended bool) time.Duration {
	if ended {
		return time.Hour
	}
	return time.Until(h.due)
}

// askHeap asks a driver's UI for data, and marks a driver whose heap is exhausted, or
// removes that mark.
func (l *loop) askHeap(ctx context.Context, k key, d *driver, pod spark.Pod, h *heap) {
	asked := time.Now()
	answer := l.cluster.Answer(ctx, pod)
	switch answer {
	case driverui.Data:
		h.Data(asked)
	case driverui.Refused:
		h.Stopped(asked)
	case driverui.Nothing, driverui.OutOfMemory:
		h.Nothing(asked, answer == driverui.OutOfMemory)
	case driverui.Broken:
		h.Broken(asked)
	case driverui.Other:
		h.Other()
	default:
		h.Unreached()
	}
	switch {
	case d.mark.IsOfHeap() && h.stale:
		l.unmark(ctx, k, d, "The driver's container has restarted: its heap is no longer reported as exhausted.")
	case d.mark.IsOfHeap() && d.mark.Evidence.Stopped && runs(answer):
		l.unmark(ctx, k, d, "Something listens on the UI's port again, so the program may have another SparkContext: its heap is no longer reported as exhausted.")
	case d.mark.IsOfHeap() && answer == driverui.Data:
		l.unmark(ctx, k, d, "The driver's UI gives data again: its heap is no longer reported as exhausted.")
	}
	h.stale = false
	l.judgeHeap(ctx, k, d, pod, h)
	h.due = time.Now().Add(h.Pause(h.after))
}

// runs reports whether an answer shows that something listens, and it is not the
// application's data.
func runs(a driverui.Answer) bool {
	return a == driverui.Other || a == driverui.Broken || a == driverui.Nothing || a == driverui.OutOfMemory
}

// judgeHeap marks a driver whose heap is exhausted, unless it has a mark that is as sure.
func (l *loop) judgeHeap(ctx context.Context, k key, d *driver, pod spark.Pod, h *heap) {
	now, logSays := time.Now(), false
	if from, says := h.Search(now); says != nil && !d.mark.IsOfHeap() {
		log, err := l.cluster.Log(ctx, pod, now.Sub(from))
		if err != nil {
			l.log.Debug("reading the log of a driver whose UI gives no data", "pod", k.NamespacedName, "error", err)
		}
		logSays = err == nil && says(log)
	}
	evidence := h.Judge(now, logSays)
	if mark := stall.NewMark(h.Since(), now, evidence); mark.IsOfHeap() && mark.Confidence.Above(confidence(d.mark)) {
		l.limiter(k.Namespace).ReserveN(now, callsToReport)
		l.report(ctx, k, d, mark)
	}
}
