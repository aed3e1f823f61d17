package stall

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// UI is how a driver's UI behaves when it is called.
type UI string

// The behaviors.
const (
	Answers      UI = "answers"
	Refuses      UI = "refuses" // it is off, or stopped, which is healthy
	IsSilent     UI = "silent"  // it accepts a connection and does not answer
	NotReachable UI = ""        // or not called: nothing is known
)

// Evidence is what is known of a silent driver besides its silence. What is not known
// is absent.
type Evidence struct {
	LastLine  time.Time `json:"lastLine,omitzero"` // by the node's clock
	Thread    string    `json:"thread,omitempty"`  // the one that died
	Error     string    `json:"error,omitempty"`   // why it died
	Stopped   bool      `json:"stopped,omitempty"` // the SparkContext has ended
	UI        UI        `json:"ui,omitempty"`
	Executors *int      `json:"executors,omitempty"` // how many run
	CPU       *int64    `json:"cpuMillicores,omitempty"`
}

// Confidence is how sure it is that a silent driver hangs.
type Confidence string

// The confidences, from the most to the least.
const (
	Sure   Confidence = "sure"
	Likely Confidence = "likely"
	Unsure Confidence = "unsure"
)

// Above reports whether it is more sure than another.
func (c Confidence) Above(other Confidence) bool {
	from := []Confidence{Unsure, Likely, Sure}
	return slices.Index(from, c) > slices.Index(from, other)
}

// Judge says how sure it is. Executors and CPU decide nothing: a driver that waits may
// have both or neither.
func Judge(e Evidence) Confidence {
	switch {
	case needed(e.Thread):
		return Sure
	case e.Thread != "", e.Stopped, e.UI == IsSilent:
		return Likely
	}
	return Unsure
}

// describe returns the message for people, in one line of less than 1 KiB.
func (m *Mark) describe() string {
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
	add(e.UI == Answers, "Its UI answers.")
	add(e.UI == Refuses, "Its UI is off or has stopped.")
	add(e.UI == IsSilent, "Its UI accepts a connection and does not answer.")
	if e.Executors != nil {
		add(true, "%d executors run.", *e.Executors)
	}
	if e.CPU != nil {
		add(true, "It uses %d millicores.", *e.CPU)
	}
	switch m.Confidence {
	case Sure:
		add(true, "It hangs.")
	case Likely:
		add(true, "It is likely that it hangs.")
	default:
		add(true, `It may not hang: a healthy driver is equally silent when it logs at WARN, waits for a long task or is idle. Take a thread dump to find out (jstack, or the UI's page Executors). If the driver is fine, raise spark.kubernetes.driver.annotation.spark-vitals.io/logStall.after, or set logStall to "false".`)
	}
	return strings.Join(say, " ")
}
