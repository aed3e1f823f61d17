package stall

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Tail is what the end of a log says.
type Tail struct {
	Last time.Time // time of the last line, by the node's clock; zero if the log is empty
	// Thread is a thread that died of an uncaught Error, a class, in the JVM's words.
	Thread, Error string
	// Stopped is true if the SparkContext has ended and the JVM still runs.
	Stopped bool
}

// ReadTail reads lines as the API server returns them with timestamps: each begins with
// its time, in RFC 3339, and a space.
func ReadTail(log string) (t Tail, err error) {
	for line := range strings.Lines(log) {
		stamp, text, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			text = line // continues the line before
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

// What the JVM writes about a thread that dies; no driver has its own handler for that.
// Spark's "Uncaught exception in thread" (Utils.tryLogNonFatalError) is about one that
// was caught: the thread lives on. Only plain names match.
var (
	// uncaught matches what ThreadGroup.uncaughtException writes.
	uncaught = regexp.MustCompile(`Exception in thread "([\w .:#/-]{1,80})" ([\w.$]{1,100})`)
	// uncaughtTwice matches the text for too little memory even for the former.
	uncaughtTwice = regexp.MustCompile(`Exception: ([\w.$]{1,100}) thrown from the UncaughtExceptionHandler in thread "([\w .:#/-]{1,80})"`)
)

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
	case strings.Contains(text, "Running Spark version"): // a new SparkContext
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
