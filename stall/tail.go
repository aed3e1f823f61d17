package stall

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Tail is what the end of a log says.
type Tail struct {
	// Last is the time of the last line, by the node's clock; zero if the log is empty.
	// A thread dump is no sign of the driver, because the liveness check asks for it. If
	// nothing else was read, Last is the time when the dump began.
	Last time.Time
	// MayBeDump is true if the last lines may end a thread dump that begins before the
	// lines that were read.
	MayBeDump bool
	// Thread is a thread that died of an uncaught Error, a class, in the JVM's words.
	Thread, Error string
	// Stopped is true if the SparkContext has ended and the JVM still runs.
	Stopped bool
}

// ReadTail reads lines as the API server returns them with timestamps: each begins with
// its time, in RFC 3339, and a space.
func ReadTail(log string) (t Tail, err error) {
	var all []line
	for text := range strings.Lines(log) {
		stamp, rest, _ := strings.Cut(strings.TrimRight(text, "\r\n"), " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			all = append(all, line{at, rest})
		} else {
			all = append(all, line{text: text})
		}
	}
	said := withoutDumps(all)
	for _, l := range said {
		if !l.at.IsZero() {
			t.Last = l.at
		}
		t.read(l.text)
	}
	if t.Last.IsZero() && len(all) > 0 {
		t.Last = all[0].at
	}
	t.MayBeDump = endAsDump(said)
	if t.Last.IsZero() && strings.TrimSpace(log) != "" {
		err = errors.New("no line of the log begins with a time")
	}
	return t, err
}

// What the JVM writes about a thread that dies; no driver has its own handler for that.
// Spark's "Uncaught exception in thread" (Utils.tryLogNonFatalError) is about one that
// was caught: the thread lives on. Only plain names match.
var (
	// uncaught matches what ThreadGroup.uncaughtException writes.
	uncaught = regexp.MustCompile(`Exception in thread "([\w .:#/-]{1,80})" ([\w.$]{1,100})`)
	// uncaughtTwice matches the text for too little memory even for the former.
	uncaughtTwice = regexp.MustCompile(`Exception: ([\w.$]{1,100}) thrown from the UncaughtExceptionHandler in thread "([\w .:#/-]{1,80})"`)
)

// newContext is what a new SparkContext writes first.
const newContext = "Running Spark version"

// IsSure reports whether it alone proves that the driver hangs.
func (t *Tail) IsSure() bool { return needed(t.Thread) }

func (t *Tail) read(text string) {
	if m := uncaught.FindStringSubmatch(text); m != nil {
		t.died(m[1], m[2])
	} else if m := uncaughtTwice.FindStringSubmatch(text); m != nil {
		t.died(m[2], m[1])
	}
	switch {
	case strings.Contains(text, "Successfully stopped SparkContext"):
		t.Stopped = true
	case strings.Contains(text, newContext):
		t.Stopped, t.Thread, t.Error = false, "", ""
	}
}

// died notes a thread that died. Of several it keeps the one that Spark cannot do
// without. A thread that died of an Exception, for example one that sends metrics, is
// not a sign.
func (t *Tail) died(thread, class string) {
	if needed(thread) || !needed(t.Thread) && strings.HasSuffix(class, "Error") {
		t.Thread, t.Error = thread, class
	}
}

// needed reports whether a thread runs one of Spark's event loops. They end at a fatal
// error and are never started again (EventLoop.scala).
func needed(thread string) bool {
	switch thread {
	case scheduler, "JobScheduler", "JobGenerator":
		return true
	}
	return false
}
