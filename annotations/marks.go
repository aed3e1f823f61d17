package annotations

import (
	"encoding/json"
	"slices"
	"time"
)

// ReleaseMark is the value of [Released], as JSON: the gateway has forgotten the engine,
// or never knew it. The releaser writes it last, so a driver that has it needs nothing
// more.
type ReleaseMark struct {
	Gateway      string        `json:"gateway"`
	At           time.Time     `json:"at"` // whole seconds
	Registration ReleaseResult `json:"registration"`
	// Sessions is how many were closed.
	Sessions int `json:"sessions"`
	// GivenUp are servers that could not be reached for minutes. It is not known which
	// sessions they have.
	GivenUp []string `json:"givenUp,omitempty"`
	// Instances are those of Kyuubi that looked for a registration, by the root and
	// namespace of their engines. Another may still find one.
	Instances []string `json:"instances,omitempty"`
}

// ReleaseResult is what happened to the registration.
type ReleaseResult string

// The results of a release.
const (
	Deregistered ReleaseResult = "deregistered"
	// Expired means that it was registered while it ran, and no longer after its death:
	// it froze, or removed its registration itself. Its sessions are closed.
	Expired ReleaseResult = "expired"
	// NotRegistered means that no registration with the engine's keys was ever seen.
	// Nothing proves which sessions belong to it, so none is closed.
	NotRegistered ReleaseResult = "not-registered"
	// Unproven means that the owner of the registration could not be proven in time,
	// and it has expired by now. Some sessions, or all, were not closed.
	Unproven ReleaseResult = "unproven"
)

// ReadReleaseMark reads the value of [Released]. It returns an empty mark for a value
// that it cannot read.
func ReadReleaseMark(value string) (m ReleaseMark) {
	if json.Unmarshal([]byte(value), &m) != nil {
		return ReleaseMark{}
	}
	return m
}

// String returns the mark as the annotation has it.
func (m ReleaseMark) String() string {
	m.At = m.At.UTC().Truncate(time.Second)
	return asJSON(m)
}

// StallMark is the value of [Stalled], as JSON: the driver's log is silent for too long,
// or its heap is exhausted. It stays on a driver that ended without another line.
type StallMark struct {
	// Since is when the log was written last, or since when the UI of a driver with an
	// exhausted heap gives no data or has stopped; in UTC and whole seconds.
	Since      time.Time     `json:"since"`
	Found      time.Time     `json:"found"` // when it was reported
	Confidence Confidence    `json:"confidence"`
	Evidence   StallEvidence `json:"evidence"`
	Message    string        `json:"message"`
}

// StallEvidence is what is known of a silent driver besides its silence. What is not
// known is absent.
type StallEvidence struct {
	// Exhausted is by what the heap is known to be exhausted. The log is then not silent.
	Exhausted ExhaustedBy `json:"exhausted,omitempty"`
	LastLine  time.Time   `json:"lastLine,omitzero"` // by the node's clock
	Thread    string      `json:"thread,omitempty"`  // the one that died
	Error     string      `json:"error,omitempty"`   // why it died
	Stopped   bool        `json:"stopped,omitempty"` // the SparkContext has ended
	Threads   *Threads    `json:"threads,omitempty"`
	UI        UIState     `json:"ui,omitempty"`
	Executors *int        `json:"executors,omitempty"` // how many run
	CPU       *int64      `json:"cpuMillicores,omitempty"`
}

// Threads is what the threads of a silent driver do, as its UI shows them.
type Threads struct {
	Do ThreadsDo `json:"do"`
	// Thread is the thread that shows it. At is its frame of the program, or else its
	// frame of Spark. Other is another thread that it waits for, and OtherAt is the
	// frame of that one.
	Thread  string `json:"thread,omitempty"`
	At      string `json:"at,omitempty"`
	Other   string `json:"other,omitempty"`
	OtherAt string `json:"otherAt,omitempty"`
	// Main is true if the program's main thread is part of a deadlock, or waits for one.
	Main bool `json:"main,omitempty"`
}

// ThreadsDo is what threads do.
type ThreadsDo string

// What threads do.
const (
	ThreadsDeadlocked  ThreadsDo = "deadlocked"  // two wait for each other's locks
	ThreadsNoScheduler ThreadsDo = "noScheduler" // the one is gone that plans Spark's jobs
	ThreadsWork        ThreadsDo = "work"        // a task runs, or a thread of the program
	ThreadsServe       ThreadsDo = "serve"       // the program waits for its users
	ThreadsWaitForJob  ThreadsDo = "waitForJob"  // the program waits for a job, and no task runs
	ThreadsWaitForLock ThreadsDo = "waitForLock" // the main thread waits for a lock that another one holds
	ThreadsWait        ThreadsDo = "wait"        // the main thread waits for something else
)

// UIState is how a driver's UI behaves when it is called.
type UIState string

// The states of a UI.
const (
	UIAnswers UIState = "answers"
	UIRefuses UIState = "refuses" // it is off, or stopped, which is healthy
	UISilent  UIState = "silent"  // it accepts a connection and does not answer
	UIUnknown UIState = ""        // it was not reached, or not called
)

// ExhaustedBy is by what a heap is known to be exhausted, besides a UI that no longer
// gives data.
type ExhaustedBy string

// What shows an exhausted heap.
const (
	ExhaustedByUI  ExhaustedBy = "ui"  // the UI's error pages say that it is full
	ExhaustedByLog ExhaustedBy = "log" // the log does
)

// Confidence is how sure it is that a silent driver hangs, or that a heap is exhausted.
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

// ReadStallMark reads the value of [Stalled].
func ReadStallMark(value string) (*StallMark, error) {
	m := &StallMark{}
	if err := json.Unmarshal([]byte(value), m); err != nil {
		return nil, err
	}
	return m, nil
}

// Is reports whether the mark is about the silence that began then.
func (m *StallMark) Is(since time.Time) bool {
	return m != nil && m.Since.Equal(since.Truncate(time.Second))
}

// IsOfHeap reports whether the mark is about an exhausted heap, and not about silence.
func (m *StallMark) IsOfHeap() bool { return m != nil && m.Evidence.Exhausted != "" }

// String returns the mark as the annotation has it.
func (m *StallMark) String() string { return asJSON(m) }

// asJSON returns a value of this package as JSON. That cannot fail for texts, numbers
// and times of this era.
func asJSON(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}
