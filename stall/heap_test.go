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
// (n)othing, (o)ut of memory, (u)nreached, (r)efused, (b)roken, (s)omething else. log is what the
// driver's log says since the last data.
func answered(answers string, apart time.Duration, log string) (e annotations.StallEvidence) {
	var h stall.Heap
	now := noon
	for _, answer := range answers {
		switch answer {
		case 'd':
			h.Data(now)
		case 'n', 'o':
			h.Nothing(now, answer == 'o')
		case 'u':
			h.Unreached()
		case 'r':
			h.Stopped(now)
		case 'b':
			h.Broken(now)
		case 's':
			h.Other()
		}
		_, says := h.Search(now)
		e = h.Judge(now, says != nil && says(log))
		now = now.Add(apart)
	}
	return e
}

// What logs say, with timestamps.
const (
	stamp = "2026-11-29T21:15:12.123456789Z "
	full  = stamp + "java.lang.OutOfMemoryError: Java heap space\n"
	stops = stamp + "26/11/29 21:15:12 ERROR Utils: uncaught error in thread spark-listener-group-shared, stopping SparkContext\n" + full
)

func TestHeap(t *testing.T) {
	for name, c := range map[string]struct {
		answers string
		apart   time.Duration
		log     string
		want    annotations.ExhaustedBy
	}{
		"gives no data, and the log names it": {"dnnn", 30 * time.Second, full, annotations.ExhaustedByLog},
		"its backlog is full":                 {"dnuu", 30 * time.Second, full, annotations.ExhaustedByLog},
		"its error pages name it":             {"dono", 30 * time.Second, "", annotations.ExhaustedByUI},
		"both":                                {"doon", 30 * time.Second, full, annotations.ExhaustedByUI},
		"one error page, and the log":         {"donn", 30 * time.Second, full, annotations.ExhaustedByLog},
		"an error in between":                 {"dbnbbnbn", 30 * time.Second, full, annotations.ExhaustedByLog},
		"errors and its pages":                {"dbobo", 30 * time.Second, "", annotations.ExhaustedByUI},
		"it came back once":                   {"dnnndnnn", 30 * time.Second, full, annotations.ExhaustedByLog},
		"it was full before":                  {"obo", 30 * time.Second, full, annotations.ExhaustedByLog},
		"its context stopped because of it":   {"drr", 5 * time.Minute, stops, annotations.ExhaustedByLog},
		"it was silent first":                 {"dnnrr", 5 * time.Minute, stops, annotations.ExhaustedByLog},

		"the log does not name it":        {"dnnnnnnnnn", 30 * time.Second, "", ""},
		"not long enough":                 {"dnnn", 29 * time.Second, full, ""},
		"too few":                         {"dnn", time.Hour, full, ""},
		"error pages in a moment":         {"doo", 30 * time.Second, "", ""},
		"one error page":                  {"donnnnnn", 30 * time.Second, "", ""},
		"answers in between":              {"dnndnndnnd", 30 * time.Second, full, ""},
		"works again":                     {"dnnnd", 30 * time.Second, full, ""},
		"out of reach":                    {"duuuuu", time.Hour, full, ""},
		"stopped, and something else ran": {"drnnnn", time.Hour, stops, ""},
		"stops while it is slow":          {"dnnrnn", time.Hour, stops, ""},
		"a filter since then":             {"dsssss", time.Hour, full, ""},
		"a filter after a slow answer":    {"dnnsnn", time.Hour, full, ""},
		"a slow start":                    {"ursnnnnnn", time.Hour, full, ""},
		"errors of another kind":          {"dbbbbb", time.Hour, full, ""},
		"TLS":                             {"ssssss", time.Hour, full, ""},
		"a proxy that closes":             {"nnnnnn", time.Hour, full, ""},
		"error pages of a proxy":          {"oooooo", time.Hour, "", ""},
		"an error page of a proxy":        {"onnnnn", time.Hour, full, ""},
		"the program stopped its context": {"drrrrr", time.Hour, full, ""},
		"its context stopped just now":    {"drr", 4 * time.Minute, stops, ""},
		"it has another context":          {"drrrrr", time.Hour, stops + stamp + "INFO SparkContext: Running Spark version 4.3.0\n", ""},
		"its UI never ran":                {"rrrrrr", time.Hour, stops, ""},
		"a login, and then it stopped":    {"srrrrr", time.Hour, stops, ""},
	} {
		if got := answered(c.answers, c.apart, c.log); got.Exhausted != c.want || got.Stopped != (c.log == stops && c.want != "") {
			t.Errorf("%s: %+v, want %q", name, got, c.want)
		}
	}
}

// A driver is never judged that gave no data since its UI stopped last, unless it refuses
// connections since, or its error pages and its log say the same. Nor is one whose last
// answer was data.
func TestHeapNeedsData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.StringMatching(`([dnoursb]*r[nb])?`).Draw(t, "before")
		without := rapid.StringMatching(`[noursrb]*`).Draw(t, "without data")
		apart := time.Duration(rapid.IntRange(0, 3600).Draw(t, "apart")) * time.Second
		for answers, log := range map[string]string{before + without: "", before + strings.ReplaceAll(without, "o", "n"): full + stops} {
			if e := answered(answers, apart, log); e.Exhausted != "" {
				t.Errorf("%s: %q", answers, e.Exhausted)
			}
		}
		if e := answered(before+without+"d", apart, full+stops); e.Exhausted != "" {
			t.Errorf("works: %q", e.Exhausted)
		}
		if e := answered("d"+without, apart, full); e.Stopped {
			t.Errorf("the program stopped its context: %+v", e)
		}
	})
}

// Questions to a driver that gives none come less and less often.
func TestHeapPause(t *testing.T) {
	data, stopped := func(h *stall.Heap) { h.Data(noon) }, func(h *stall.Heap) { h.Stopped(noon) }
	for name, c := range map[string]struct {
		note  func(*stall.Heap)
		times int
		after time.Duration
		want  time.Duration
	}{
		"new":                {nil, 0, after, 10 * time.Minute},
		"works":              {data, 9, after, 10 * time.Minute},
		"may be silent long": {data, 9, 24 * time.Hour, 10 * time.Minute},
		"a minute":           {data, 9, time.Minute, 30 * time.Second},
		"starts":             {(*stall.Heap).Other, 3, after, 10 * time.Minute},
		"out of reach":       {(*stall.Heap).Unreached, 99, after, 80 * time.Minute},
		"its UI is off":      {stopped, 99, after, 80 * time.Minute},
		"has stopped":        {func(h *stall.Heap) { h.Data(noon); h.Stopped(noon) }, 1, after, 5 * time.Minute},
		"has stopped, and may be silent for a minute": {func(h *stall.Heap) { h.Data(noon); h.Stopped(noon) }, 1, time.Minute, 5 * time.Minute},
		"stops to answer": {func(h *stall.Heap) { h.Data(noon); h.Nothing(noon, false) }, 1, after, 30 * time.Second},
		"is reported":     {func(h *stall.Heap) { *h = stall.ResumeHeap(noon); h.Nothing(noon, false) }, 1, after, time.Minute},
		"has stopped long": {func(h *stall.Heap) {
			*h = stall.ResumeHeap(noon)
			for range 1000 {
				h.Nothing(noon, false)
			}
		}, 1, after, 10 * time.Minute},
		"something else once": {func(h *stall.Heap) { h.Data(noon); h.Other() }, 1, after, 10 * time.Minute},
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

func TestFullHeapInLog(t *testing.T) {
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
		if got := answered("dnnn", time.Minute, stamp+"INFO x\n"+stamp+line+"\n"+stamp+"\tat x\n").Exhausted != ""; got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

func TestStopInLog(t *testing.T) {
	for log, want := range map[string]bool{
		// As Spark 3.5.9 and 4.3.0 wrote it.
		stops: true,
		stops + stamp + "\tat e2e.Stop$1.onJobEnd(Stop.java:13)\n" + stamp + "26/11/29 21:15:12 INFO SparkContext: Successfully stopped SparkContext\n": true,
		stamp + "INFO SparkContext: Running Spark version 4.3.0\n" + stops:                                                                              true,
		// Of another reason, or of none.
		strings.ReplaceAll(stops, "Java heap space", "Metaspace"):                                 false,
		strings.ReplaceAll(stops, "OutOfMemoryError", "StackOverflowError"):                       false,
		strings.ReplaceAll(stops, ", stopping SparkContext", ""):                                  false,
		strings.ReplaceAll(stops, full, stamp+"java.lang.IllegalStateException: x\n") + full:      false,
		full + stamp + "26/11/29 21:15:12 INFO SparkContext: Successfully stopped SparkContext\n": false,
	} {
		if got := answered("drr", time.Hour, log).Stopped; got != want {
			t.Errorf("%s: %t", log, got)
		}
	}
}

func TestHeapMark(t *testing.T) {
	for says, e := range map[string]annotations.StallEvidence{
		"The driver's heap is exhausted: its UI gives no data since 2026-11-21T12:00:00Z, and its error pages name java.lang.OutOfMemoryError. ":                                                                                           {Exhausted: annotations.ExhaustedByUI},
		"It is likely that the driver's heap is exhausted: its UI gives no data since 2026-11-21T12:00:00Z, and its log names java.lang.OutOfMemoryError. ":                                                                                {Exhausted: annotations.ExhaustedByLog},
		"It is likely that the driver's SparkContext has stopped because its heap was full: its log names java.lang.OutOfMemoryError as the reason, and its UI accepts no connection since 2026-11-21T12:00:00Z. The JVM still runs, and ": {Exhausted: annotations.ExhaustedByLog, Stopped: true},
	} {
		confidence := annotations.Likely
		if e.Exhausted == annotations.ExhaustedByUI {
			confidence = annotations.Sure
		}
		mark := stall.NewMark(noon, at(2), e)
		if mark.Confidence != confidence || !strings.HasPrefix(mark.Message, says) || strings.Contains(mark.Message, "silent") || len(mark.Message) > 1024 {
			t.Errorf("%s: %s", mark.Confidence, mark.Message)
		}
		back, err := annotations.ReadStallMark(mark.String())
		if err != nil || !back.IsOfHeap() || back.String() != mark.String() {
			t.Errorf("read back as %v, %v", back, err)
		}
	}
}
