package stall

import (
	"fmt"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Judge says how sure it is. Executors and CPU decide nothing: a driver that waits may
// have both or neither.
func Judge(e annotations.StallEvidence) annotations.Confidence {
	threads := threadsConfidence(e.Threads)
	switch {
	case e.Exhausted == annotations.ExhaustedByUI:
		return annotations.Sure
	case e.Exhausted != "":
		return annotations.Likely
	case needed(e.Thread), threads == annotations.Sure:
		return annotations.Sure
	case e.Thread != "", e.Stopped, e.UI == annotations.UISilent:
		return annotations.Likely
	}
	return threads
}

// NewMark returns the mark of a driver.
func NewMark(since, found time.Time, e annotations.StallEvidence) *annotations.StallMark {
	m := &annotations.StallMark{Since: since.UTC().Truncate(time.Second), Found: found.UTC().Truncate(time.Second), Confidence: Judge(e), Evidence: e}
	m.Message = describe(m)
	return m
}

// describe returns the message for people, in one line of less than 1 KiB.
func describe(m *annotations.StallMark) string {
	if m.IsOfHeap() {
		return describeHeap(m)
	}
	say := []string{fmt.Sprintf("The driver's log is silent since %s.", m.Since.Format(time.RFC3339))}
	add := func(when bool, format string, args ...any) {
		if when {
			say = append(say, fmt.Sprintf(format, args...))
		}
	}
	e := &m.Evidence
	cause := ""
	if e.Error != "" {
		cause = " of " + e.Error
	}
	add(needed(e.Thread), "Its thread %s died%s, and Spark runs no job without it.", e.Thread, cause)
	add(e.Thread != "" && !needed(e.Thread), "Its thread %s died%s.", e.Thread, cause)
	add(e.Stopped, "Its SparkContext has stopped, but the JVM still runs: the program works without Spark, or a non-daemon thread keeps the JVM alive.")
	threads := describeThreads(e.Threads)
	add(threads != "", "%s", threads)
	add(e.UI == annotations.UIAnswers && e.Threads == nil, "Its UI answers.")
	add(e.UI == annotations.UIRefuses, "Its UI is off or has stopped.")
	add(e.UI == annotations.UISilent, "Its UI accepts a connection and does not answer.")
	if e.Executors != nil {
		add(true, "%d executors run.", *e.Executors)
	}
	if e.CPU != nil {
		add(true, "It uses %d millicores.", *e.CPU)
	}
	switch m.Confidence {
	case annotations.Sure:
		add(true, "It hangs.")
	case annotations.Likely:
		add(true, "It is likely that it hangs.")
	default:
		add(e.Threads != nil, "It may not hang: a healthy driver waits in the same way for a long time.")
		add(e.Threads == nil, `It may not hang: a healthy driver is equally silent when it logs at WARN, waits for a long task or is idle. Take a thread dump to find out (jstack, or the UI's page Executors).`)
		add(true, `If the driver is fine, raise spark.kubernetes.driver.annotation.spark-vitals.io/logStall.after, or set logStall to "false".`)
	}
	return strings.Join(say, " ")
}
