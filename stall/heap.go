package stall

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Heap is what a driver's UI answers over time, by which an exhausted heap is found.
// Silence counts only of a UI that has given data: then no filter, no TLS and no start
// is in the way. The zero Heap knows nothing.
type Heap struct {
	data       time.Time // when the UI gave data last; zero if it did not, or not since it ran anew
	since      time.Time // the first of the questions in a row without data; zero if there is none
	unanswered int       // how many of them brought nothing
	named      int       // how many of them were answered by OutOfMemoryError
	refused    int       // how many were refused; they are then all
	fruitless  int       // how many questions in all brought no data since the last that did
}

// What is asked for before a heap counts as exhausted. A JVM in a long garbage
// collection has answered within 9 s.
const (
	unanswered = 3
	named      = 2
	apart      = time.Minute // from the first question in a row to the last one
	refused    = 2
)

// LongSilence is how long no question brings data before errors count that were logged
// before the first of them. A pause right after an error, for example for a heap dump, is
// shorter. A UI that has stopped for so long does not end its program.
const LongSilence = 5 * time.Minute

// ResumeHeap continues from a report that a heap is exhausted since then.
func ResumeHeap(since time.Time) Heap {
	return Heap{data: since, since: since, unanswered: unanswered, fruitless: unanswered}
}

// Data notes data.
func (h *Heap) Data(now time.Time) { *h = Heap{data: now} }

// Stopped notes that the UI has stopped, or never ran.
func (h *Heap) Stopped(now time.Time) {
	if h.refused == 0 {
		*h = Heap{data: h.data, since: now, fruitless: h.fruitless}
	}
	h.refused++
	h.fruitless++
}

// Other notes that the UI answered something else.
func (h *Heap) Other() {
	h.runs()
	*h = Heap{data: h.data, fruitless: h.fruitless + 1}
}

// Unreached notes that the UI accepted no connection. If it gave no data before, its
// backlog is full: no thread accepts connections any more.
func (h *Heap) Unreached() {
	h.fruitless++
	if h.unanswered > 0 {
		h.unanswered++
	}
}

// Broken notes an error that says nothing of the heap. It neither counts nor ends a row of
// questions without data.
func (h *Heap) Broken(now time.Time) {
	h.runs()
	h.fruitless++
	if h.since.IsZero() {
		h.since = now
	}
}

// Nothing notes that the UI accepted a connection, and gave no data. outOfMemory is
// whether it named the error instead.
func (h *Heap) Nothing(now time.Time, outOfMemory bool) {
	h.Broken(now)
	h.unanswered++
	if outOfMemory {
		h.named++
	}
}

// runs notes that something listens. If the UI had stopped, it is another one.
func (h *Heap) runs() {
	if h.refused > 0 {
		*h = Heap{fruitless: h.fruitless}
	}
}

// Since returns when the first of the questions in a row was asked that brought no data.
func (h *Heap) Since() time.Time { return h.since }

// Search returns what the log is searched for, and from when on; nil if it does not
// matter.
func (h *Heap) Search(now time.Time) (from time.Time, says func(log string) bool) {
	switch {
	case h.hasStopped(now):
		return h.data, namesStop
	case h.isSilent(now) && now.Sub(h.since) >= LongSilence:
		return h.data, namesFullHeap
	case h.isSilent(now), h.isNamed(now):
		return h.since, namesFullHeap
	}
	return time.Time{}, nil
}

// isSilent reports whether the UI gives no data for so long that the log matters.
func (h *Heap) isSilent(now time.Time) bool {
	return h.unanswered >= unanswered && now.Sub(h.since) >= apart && !h.data.IsZero()
}

// isNamed reports whether error pages have named the error for so long that they count.
func (h *Heap) isNamed(now time.Time) bool {
	return h.named >= named && now.Sub(h.since) >= apart
}

// hasStopped reports whether the UI gave data, and has stopped for so long that the log
// matters.
func (h *Heap) hasStopped(now time.Time) bool {
	return h.refused >= refused && now.Sub(h.since) >= LongSilence && !h.data.IsZero()
}

// Judge returns the evidence that the heap is exhausted; it is empty if it does not count
// as exhausted. logSays is whether the log says what Search asks for. Without data before,
// the error pages may be a proxy's, so the log must say the same.
func (h *Heap) Judge(now time.Time, logSays bool) (e annotations.StallEvidence) {
	switch {
	case logSays && h.hasStopped(now):
		return annotations.StallEvidence{Exhausted: annotations.ExhaustedByLog, Stopped: true, UI: annotations.UIRefuses}
	case h.isNamed(now) && !h.data.IsZero():
		e.Exhausted = annotations.ExhaustedByUI
	case logSays && (h.isSilent(now) || h.isNamed(now)):
		e.Exhausted = annotations.ExhaustedByLog
	}
	return e
}

// Pause returns how long to wait for the next question. A driver that stops to give
// data is asked soon, and one that gives none seldom: it may be out of reach, and each
// question then takes seconds.
func (h *Heap) Pause(after time.Duration) time.Duration {
	usual := min(max(after/3, askSoon), 10*time.Minute)
	switch {
	case h.data.IsZero() && h.named == 0, h.refused > 1:
		return usual << min(max(h.fruitless-3, 0), 3)
	case h.refused > 0:
		return LongSilence
	case !h.since.IsZero():
		return min(askSoon<<min(max(h.fruitless-unanswered, 0), 10), usual)
	}
	return usual
}

const askSoon = 30 * time.Second

// fullHeap matches what the JVM and py4j write about an error of this JVM. In the middle
// of a line it may be about an executor's: "Lost task 0.0 in stage 1.0 (TID 1)
// (10.1.2.3 executor 1): java.lang.OutOfMemoryError: Java heap space".
var fullHeap = regexp.MustCompile(`^(: |Exception in thread "[^"]{0,200}" )?java\.lang\.OutOfMemoryError: (Java heap space|GC overhead limit exceeded)` +
	`|^Exception: java\.lang\.OutOfMemoryError thrown from the UncaughtExceptionHandler in thread `)

// namesFullHeap reports whether lines of a driver's log, as the API server returns them
// with timestamps, say that its own heap was full.
func namesFullHeap(log string) bool {
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(line, " ") // after the timestamp
		if fullHeap.MatchString(text) {
			return true
		}
	}
	return false
}

// stops matches what Spark writes when it stops a SparkContext because of an error, which
// is the next line (Utils.tryOrStopSparkContext).
var stops = regexp.MustCompile(`uncaught error in thread .{1,100}, stopping SparkContext`)

// namesStop reports whether the last SparkContext that lines of a driver's log name has
// stopped because the heap was full. A program that stops it on its own may have logged
// the error, too.
func namesStop(log string) (stopped bool) {
	next := false
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(line, " ")
		stopped = (stopped || next && fullHeap.MatchString(text)) && !strings.Contains(text, newContext)
		next = stops.MatchString(text)
	}
	return stopped
}

// describeHeap returns the message for people about an exhausted heap.
func describeHeap(m *annotations.StallMark) string {
	since := m.Since.Format(time.RFC3339)
	says := fmt.Sprintf("It is likely that the driver's heap is exhausted: its UI gives no data since %s, and its log names java.lang.OutOfMemoryError. It still runs, and its jobs may fail.", since)
	switch {
	case m.Evidence.Stopped:
		says = fmt.Sprintf("It is likely that the driver's SparkContext has stopped because its heap was full: its log names java.lang.OutOfMemoryError as the reason, and its UI accepts no connection since %s. The JVM still runs, and Spark runs no job in it.", since)
	case m.Evidence.Exhausted == annotations.ExhaustedByUI:
		says = fmt.Sprintf("The driver's heap is exhausted: its UI gives no data since %s, and its error pages name java.lang.OutOfMemoryError. It still runs, and its jobs may fail.", since)
	}
	return says + " Raise spark.driver.memory, or bring less data to the driver. " +
		`If such a driver should end at the first error of this kind, set spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError to "true".`
}
