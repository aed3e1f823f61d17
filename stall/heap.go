package stall

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Heap is what a driver's UI answers over time, by which an exhausted heap is found.
// Only a driver is judged whose UI has given data: then no filter, no TLS and no start
// is in the way. The zero Heap knows nothing.
type Heap struct {
	hasData    bool
	since      time.Time // the first of the questions in a row without data; zero if there is none
	unanswered int       // how many they are
	named      int       // how many of them were answered by OutOfMemoryError
	fruitless  int       // how many questions in all brought no data since the last that did
}

// What is asked for before a heap counts as exhausted. A JVM in a long garbage
// collection has answered within 9 s.
const (
	unanswered = 3
	named      = 2
	apart      = time.Minute // from the first question in a row to the last one
)

// ResumeHeap continues from a report that a heap is exhausted since then.
func ResumeHeap(since time.Time) Heap {
	return Heap{hasData: true, since: since, unanswered: unanswered}
}

// Data notes data.
func (h *Heap) Data() { *h = Heap{hasData: true} }

// Stopped notes that the UI has stopped, or never ran.
func (h *Heap) Stopped() { *h = Heap{fruitless: h.fruitless + 1} }

// Other notes that the UI answered something else.
func (h *Heap) Other() { *h = Heap{hasData: h.hasData, fruitless: h.fruitless + 1} }

// Unreached notes that the UI accepted no connection. If it gave no data before, its
// backlog is full: no thread accepts connections any more.
func (h *Heap) Unreached() {
	h.fruitless++
	if h.unanswered > 0 {
		h.unanswered++
	}
}

// Nothing notes that the UI accepted a connection, and gave no data. outOfMemory is
// whether it named the error instead.
func (h *Heap) Nothing(now time.Time, outOfMemory bool) {
	h.fruitless++
	if !h.hasData {
		return
	}
	if h.since.IsZero() {
		h.since = now
	}
	h.unanswered++
	if outOfMemory {
		h.named++
	}
}

// Since returns when the first of the questions in a row was asked that brought no data.
func (h *Heap) Since() time.Time { return h.since }

// IsSilent reports whether the UI gives no data for so long that the log matters.
func (h *Heap) IsSilent(now time.Time) bool {
	return h.unanswered >= unanswered && now.Sub(h.since) >= apart
}

// Judge says by what the heap counts as exhausted; by nothing if it does not. logNames is
// whether the log names the error after Since.
func (h *Heap) Judge(now time.Time, logNames bool) annotations.ExhaustedBy {
	switch {
	case h.named >= named && now.Sub(h.since) >= apart:
		return annotations.ExhaustedByUI
	case logNames && h.IsSilent(now):
		return annotations.ExhaustedByLog
	}
	return ""
}

// Pause returns how long to wait for the next question. A driver that stops to give
// data is asked soon, and one that gives none seldom: it may be out of reach, and each
// question then takes seconds.
func (h *Heap) Pause(after time.Duration) time.Duration {
	usual := min(max(after/3, askSoon), 10*time.Minute)
	if !h.hasData {
		return usual << min(max(h.fruitless-3, 0), 3)
	}
	if h.unanswered > 0 {
		return min(askSoon<<min(max(h.unanswered-unanswered, 0), 10), usual)
	}
	return usual
}

const askSoon = 30 * time.Second

// fullHeap matches what the JVM and py4j write about an error of this JVM. In the middle
// of a line it may be about an executor's: "Lost task 0.0 in stage 1.0 (TID 1)
// (10.1.2.3 executor 1): java.lang.OutOfMemoryError: Java heap space".
var fullHeap = regexp.MustCompile(`^(: |Exception in thread "[^"]{0,200}" )?java\.lang\.OutOfMemoryError: (Java heap space|GC overhead limit exceeded)` +
	`|^Exception: java\.lang\.OutOfMemoryError thrown from the UncaughtExceptionHandler in thread `)

// NamesFullHeap reports whether lines of a driver's log, as the API server returns them
// with timestamps, say that its own heap was full.
func NamesFullHeap(log string) bool {
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(line, " ") // after the timestamp
		if fullHeap.MatchString(text) {
			return true
		}
	}
	return false
}

// describeHeap returns the message for people about an exhausted heap.
func describeHeap(m *annotations.StallMark) string {
	is, shown := "The driver's heap is exhausted", "its error pages name java.lang.OutOfMemoryError"
	if m.Evidence.Exhausted == annotations.ExhaustedByLog {
		is, shown = "It is likely that the driver's heap is exhausted", "its log names java.lang.OutOfMemoryError"
	}
	return fmt.Sprintf("%s: its UI gives no data since %s, and %s. It still runs, and its jobs may fail. "+
		"Raise spark.driver.memory, or bring less data to the driver. "+
		`If such a driver should end at the first error of this kind, set spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError to "true".`,
		is, m.Since.Format(time.RFC3339), shown)
}
