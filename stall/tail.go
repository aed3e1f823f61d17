package stall

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Tail is what the end of a log says.
type Tail struct {
	Last time.Time // of the last line, by the node's clock; zero: the log is empty
	// Thread that died of an uncaught Error, a class, by the JVM's own words.
	Thread, Error string
	// Stopped says that the SparkContext has ended; the JVM goes on.
	Stopped bool
}

// ReadTail reads lines as the API server gives them with timestamps: each begins
// with its time, in RFC 3339, and a space.
func ReadTail(log string) (t Tail, err error) {
	for line := range strings.Lines(log) {
		stamp, text, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			text = line // goes on from the line before
		} else {
			t.Last = at
		}
		t.read(text)
	}
	if t.Last.IsZero() && strings.TrimSpace(log) != "" {
		err = errors.New("no line of the log begins with a time")
	}
	return t, err
}

// What the JVM writes of a thread that dies; no driver has a handler of its own
// for that. Spark's "Uncaught exception in thread" (Utils.tryLogNonFatalError) is
// of one that was caught: the thread lives on. A name is quoted only as far as it
// is plain.
var (
	// ThreadGroup.uncaughtException
	uncaught = regexp.MustCompile(`Exception in thread "([\w .:#/-]{1,80})" ([\w.$]{1,100})`)
	// where memory was short for the former too
	uncaughtTwice = regexp.MustCompile(`Exception: ([\w.$]{1,100}) thrown from the UncaughtExceptionHandler in thread "([\w .:#/-]{1,80})"`)
)

// IsSure tells whether it alone is proof that the driver hangs.
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
	case strings.Contains(text, "Running Spark version"): // a new SparkContext
		t.Stopped, t.Thread, t.Error = false, "", ""
	}
}

// died: of several threads, the one that Spark cannot do without is named. That
// another died of an Exception, as one that sends metrics may, is no sign.
func (t *Tail) died(thread, class string) {
	if needed(thread) || !needed(t.Thread) && strings.HasSuffix(class, "Error") {
		t.Thread, t.Error = thread, class
	}
}

// needed threads are those of Spark's event loops, which end at an error that is
// fatal and are never started again (EventLoop.scala).
func needed(thread string) bool {
	switch thread {
	case "dag-scheduler-event-loop", "JobScheduler", "JobGenerator":
		return true
	}
	return false
}
