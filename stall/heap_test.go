package stall_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/stall"
)

// answered returns what is judged of answers, each so long after the one before: (d)ata,
// (n)othing, (o)ut of memory, (u)nreached, (r)efused, (s)omething else.
func answered(answers string, apart time.Duration, logNames bool) (by annotations.ExhaustedBy) {
	var h stall.Heap
	now := noon
	for _, answer := range answers {
		switch answer {
		case 'd':
			h.Data()
		case 'n', 'o':
			h.Nothing(now, answer == 'o')
		case 'u':
			h.Unreached()
		case 'r':
			h.Stopped()
		case 's':
			h.Other()
		}
		by = h.Judge(now, logNames)
		now = now.Add(apart)
	}
	return by
}

func TestHeap(t *testing.T) {
	for name, c := range map[string]struct {
		answers  string
		apart    time.Duration
		logNames bool
		want     annotations.ExhaustedBy
	}{
		"gives no data, and the log names it": {"dnnn", 30 * time.Second, true, annotations.ExhaustedByLog},
		"its backlog is full":                 {"dnuu", 30 * time.Second, true, annotations.ExhaustedByLog},
		"its error pages name it":             {"dono", 30 * time.Second, false, annotations.ExhaustedByUI},
		"both":                                {"doon", 30 * time.Second, true, annotations.ExhaustedByUI},
		"one error page, and the log":         {"donn", 30 * time.Second, true, annotations.ExhaustedByLog},
		"it came back once":                   {"dnnndnnn", 30 * time.Second, true, annotations.ExhaustedByLog},

		"the log does not name it":     {"dnnnnnnnnn", 30 * time.Second, false, ""},
		"not long enough":              {"dnnn", 29 * time.Second, true, ""},
		"too few":                      {"dnn", time.Hour, true, ""},
		"error pages in a moment":      {"doo", 30 * time.Second, false, ""},
		"one error page":               {"donnnnnn", 30 * time.Second, false, ""},
		"answers in between":           {"dnndnndnnd", 30 * time.Second, true, ""},
		"works again":                  {"dnnnd", 30 * time.Second, true, ""},
		"out of reach":                 {"duuuuu", time.Hour, true, ""},
		"stopped":                      {"drnnnn", time.Hour, true, ""},
		"stops while it is slow":       {"dnnrnn", time.Hour, true, ""},
		"a filter since then":          {"dsssss", time.Hour, true, ""},
		"a filter after a slow answer": {"dnnsnn", time.Hour, true, ""},
		"a slow start":                 {"ursnnnnnn", time.Hour, true, ""},
		"TLS":                          {"ssssss", time.Hour, true, ""},
		"a proxy that closes":          {"nnnnnn", time.Hour, true, ""},
		"error pages of a proxy":       {"oooooo", time.Hour, true, ""},
	} {
		if got := answered(c.answers, c.apart, c.logNames); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A driver that gave no data since its UI stopped last is never judged, nor is one whose
// last answer was data.
func TestHeapNeedsData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.StringMatching(`([dnoursd]*r)?`).Draw(t, "before")
		without := rapid.StringMatching(`[nous]*`).Draw(t, "without data")
		apart := time.Duration(rapid.IntRange(0, 3600).Draw(t, "apart")) * time.Second
		if by := answered(before+without, apart, true); by != "" {
			t.Errorf("%q", by)
		}
		if by := answered(before+without+"d", apart, true); by != "" {
			t.Errorf("works: %q", by)
		}
	})
}

// Questions to a driver that gives none come less and less often.
func TestHeapPause(t *testing.T) {
	for name, c := range map[string]struct {
		note  func(*stall.Heap)
		times int
		after time.Duration
		want  time.Duration
	}{
		"new":                {nil, 0, after, 10 * time.Minute},
		"works":              {(*stall.Heap).Data, 9, after, 10 * time.Minute},
		"may be silent long": {(*stall.Heap).Data, 9, 24 * time.Hour, 10 * time.Minute},
		"a minute":           {(*stall.Heap).Data, 9, time.Minute, 30 * time.Second},
		"starts":             {(*stall.Heap).Other, 3, after, 10 * time.Minute},
		"out of reach":       {(*stall.Heap).Unreached, 99, after, 80 * time.Minute},
		"its UI is off":      {(*stall.Heap).Stopped, 99, after, 80 * time.Minute},
		"stops to answer":    {func(h *stall.Heap) { h.Data(); h.Nothing(noon, false) }, 1, after, 30 * time.Second},
		"is reported":        {func(h *stall.Heap) { *h = stall.ResumeHeap(noon); h.Nothing(noon, false) }, 1, after, time.Minute},
		"has stopped long": {func(h *stall.Heap) {
			*h = stall.ResumeHeap(noon)
			for range 1000 {
				h.Nothing(noon, false)
			}
		}, 1, after, 10 * time.Minute},
		"something else once": {func(h *stall.Heap) { h.Data(); h.Other() }, 1, after, 10 * time.Minute},
	} {
		var h stall.Heap
		for range c.times {
			c.note(&h)
		}
		if got := h.Pause(c.after); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestNamesFullHeap(t *testing.T) {
	const stamp = "2026-11-29T21:15:12.123456789Z "
	for line, want := range map[string]bool{
		// As drivers with an exhausted heap wrote it.
		`java.lang.OutOfMemoryError: Java heap space`:                                                             true,
		`java.lang.OutOfMemoryError: GC overhead limit exceeded`:                                                  true,
		`: java.lang.OutOfMemoryError: Java heap space`:                                                           true,
		`Exception in thread "dispatcher-event-loop-1" java.lang.OutOfMemoryError: Java heap space`:               true,
		`Exception in thread "SparkUI-JettyScheduler-1" java.lang.OutOfMemoryError: Java heap space`:              true,
		`Exception: java.lang.OutOfMemoryError thrown from the UncaughtExceptionHandler in thread "rpc-server-4"`: true,
		// Of other memory, of an executor, or of both.
		`java.lang.OutOfMemoryError: Metaspace`: false,
		`java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached`:                               false,
		`java.lang.OutOfMemoryError: Requested array size exceeds VM limit`:                                                                                   false,
		`26/11/29 21:15:12 WARN TaskSetManager: Lost task 0.0 in stage 1.0 (TID 1) (10.1.2.3 executor 1): java.lang.OutOfMemoryError: Java heap space`:        false,
		`Caused by: java.lang.OutOfMemoryError: Java heap space`:                                                                                              false,
		`org.apache.spark.SparkException: Job aborted due to stage failure: Lost task 0.3 (10.1.2.3 executor 1): java.lang.OutOfMemoryError: Java heap space`: false,
		`26/11/29 21:15:12 INFO Program: java.lang.OutOfMemoryError is what we look for`:                                                                      false,
		``: false,
	} {
		if got := stall.NamesFullHeap(stamp + "INFO x\n" + stamp + line + "\n" + stamp + "\tat x\n"); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

func TestHeapMark(t *testing.T) {
	for by, c := range map[annotations.ExhaustedBy]struct {
		confidence annotations.Confidence
		says       string
	}{
		annotations.ExhaustedByUI:  {annotations.Sure, "The driver's heap is exhausted: its UI gives no data since 2026-11-21T12:00:00Z, and its error pages name java.lang.OutOfMemoryError. "},
		annotations.ExhaustedByLog: {annotations.Likely, "It is likely that the driver's heap is exhausted: its UI gives no data since 2026-11-21T12:00:00Z, and its log names java.lang.OutOfMemoryError. "},
	} {
		mark := stall.NewMark(noon, at(2), annotations.StallEvidence{Exhausted: by})
		if mark.Confidence != c.confidence || !strings.HasPrefix(mark.Message, c.says) || strings.Contains(mark.Message, "silent") || len(mark.Message) > 1024 {
			t.Errorf("%s: %s: %s", by, mark.Confidence, mark.Message)
		}
		back, err := annotations.ReadStallMark(mark.String())
		if err != nil || !back.IsOfHeap() || back.String() != mark.String() {
			t.Errorf("read back as %v, %v", back, err)
		}
	}
}
