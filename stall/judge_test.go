package stall_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/stall"
)

func TestReadTail(t *testing.T) {
	const stamp = "2026-11-21T12:00:00.123456789Z "
	for name, c := range map[string]struct {
		log  string
		want stall.Tail
	}{
		"empty":         {"", stall.Tail{}},
		"a line":        {stamp + "26/11/21 INFO x\n", stall.Tail{}},
		"no newline":    {stamp + "x", stall.Tail{}},
		"an empty line": {stamp + "\n", stall.Tail{MayBeDump: true}},
		"goes on":       {stamp + "x\nnot a time\n", stall.Tail{}},
		"the scheduler": {stamp + `Exception in thread "dag-scheduler-event-loop" java.lang.OutOfMemoryError: Java heap space` + "\n" + stamp + "\tat x\n",
			stall.Tail{Thread: "dag-scheduler-event-loop", Error: "java.lang.OutOfMemoryError"}},
		"no memory for its stack": {stamp + `Exception: java.lang.OutOfMemoryError thrown from the UncaughtExceptionHandler in thread "dag-scheduler-event-loop"`,
			stall.Tail{Thread: "dag-scheduler-event-loop", Error: "java.lang.OutOfMemoryError"}},
		"the needed one of two": {stamp + `Exception in thread "JobGenerator" java.lang.StackOverflowError` + "\n" + stamp + `Exception in thread "Thread-9" x.YError`,
			stall.Tail{Thread: "JobGenerator", Error: "java.lang.StackOverflowError"}},
		"the needed one, whatever it died of": {stamp + `Exception in thread "JobGenerator" x.Y`, stall.Tail{Thread: "JobGenerator", Error: "x.Y"}},
		"an Error, and not the exception":     {stamp + `Exception in thread "Thread-9" x.YError` + "\n" + stamp + `Exception in thread "Thread-10" x.Y`, stall.Tail{Thread: "Thread-9", Error: "x.YError"}},
		// Of these the driver works on.
		"a user's thread": {stamp + `Exception in thread "metrics-push-1" java.net.SocketTimeoutException: Read timed out`, stall.Tail{}},
		"a poll that failed": {stamp + "26/11/21 12:00:00 ERROR Utils: Uncaught exception in thread kubernetes-executor-pod-polling-sync\n" + stamp + "io.fabric8.kubernetes.client.KubernetesClientException: Operation: [list]  for kind: [Pod]  with name: [null]  in namespace: [spark]  failed.\n",
			stall.Tail{}},
		"a step of the end that failed": {stamp + "26/11/21 12:00:00 ERROR Utils: Uncaught exception in thread main\n", stall.Tail{}},
		"stopped":                       {stamp + "INFO SparkContext: Successfully stopped SparkContext\n", stall.Tail{Stopped: true}},
		"and anew":                      {stamp + "Successfully stopped SparkContext\n" + stamp + "INFO SparkContext: Running Spark version 4.3.0\n", stall.Tail{}},
		"a wild thread":                 {stamp + "Exception in thread \"\x1b[2J<b>\" x.Y", stall.Tail{}},
	} {
		if c.log != "" {
			c.want.Last = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
		}
		if got, err := stall.ReadTail(c.log); got != c.want || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := stall.ReadTail("an error of the runtime\n"); err == nil {
		t.Error("a log without times is read as empty")
	}
}

func TestJudge(t *testing.T) {
	three, idle := 3, int64(2)
	for name, c := range map[string]struct {
		e    annotations.StallEvidence
		want annotations.Confidence
		says string
	}{
		"nothing but silence":      {annotations.StallEvidence{}, annotations.Unsure, "when it logs at WARN"},
		"healthy as far as we see": {annotations.StallEvidence{UI: annotations.UIAnswers, Executors: &three, CPU: &idle}, annotations.Unsure, "Its UI answers. 3 executors run. It uses 2 millicores."},
		"its scheduler died":       {annotations.StallEvidence{Thread: "dag-scheduler-event-loop", Error: "java.lang.OutOfMemoryError", UI: annotations.UIAnswers}, annotations.Sure, "dag-scheduler-event-loop died of java.lang.OutOfMemoryError, and Spark runs no job without it"},
		"another thread died":      {annotations.StallEvidence{Thread: "Thread-9"}, annotations.Likely, "Its thread Thread-9 died."},
		"a UI that is silent":      {annotations.StallEvidence{UI: annotations.UISilent}, annotations.Likely, "accepts a connection and does not answer"},
		"stopped, and goes on":     {annotations.StallEvidence{Stopped: true, UI: annotations.UIRefuses}, annotations.Likely, "a non-daemon thread keeps the JVM alive"},
		"all signs but the one":    {annotations.StallEvidence{Thread: "main", Stopped: true, UI: annotations.UISilent}, annotations.Likely, "It is likely that it hangs."},
	} {
		mark := stall.NewMark(noon, noon.Add(time.Hour), c.e)
		if mark.Confidence != c.want || !strings.Contains(mark.Message, c.says) {
			t.Errorf("%s: %s: %s", name, mark.Confidence, mark.Message)
		}
		back, err := annotations.ReadStallMark(mark.String())
		if err != nil || back.String() != mark.String() || !back.Is(noon.Add(time.Millisecond)) || back.Is(noon.Add(time.Second)) {
			t.Errorf("%s: read back as %v, %v", name, back, err)
		}
	}
}

// The end of a log whose scheduler died of its memory, and what is said of it.
func TestSure(t *testing.T) {
	tail, err := stall.ReadTail(`2026-11-21T12:00:01.104Z 26/11/21 12:00:01 INFO TaskSetManager: Finished task 1.0 in stage 6.0 (TID 13) in 71 ms on 10.1.2.4 (executor 1) (2/2)
2026-11-21T12:00:03.551Z Exception in thread "dag-scheduler-event-loop" java.lang.OutOfMemoryError: Java heap space
2026-11-21T12:00:03.551Z 	at java.base/java.util.Arrays.copyOf(Arrays.java:3537)
2026-11-21T12:00:03.551Z 	at org.apache.spark.util.EventLoop$$anon$1.run(EventLoop.scala:50)
2026-11-21T12:00:41.870Z 26/11/21 12:00:41 INFO BlockManagerInfo: Removed broadcast_7_piece0 on 10.1.2.3:7079 in memory
`)
	mark := stall.NewMark(tail.Last, at(33), annotations.StallEvidence{LastLine: tail.Last, Thread: tail.Thread, Error: tail.Error, UI: annotations.UIAnswers})
	const says = "The driver's log is silent since 2026-11-21T12:00:41Z. Its thread dag-scheduler-event-loop died of java.lang.OutOfMemoryError, and Spark runs no job without it. Its UI answers. It hangs."
	if err != nil || mark.Confidence != annotations.Sure || mark.Message != says {
		t.Errorf("%s: %s, %v", mark.Confidence, mark.Message, err)
	}
}

// However long what the log names is, the Event's message is not cut.
func TestMarkIsShort(t *testing.T) {
	thread, class := strings.Repeat("t", 80), strings.Repeat("E", 100)
	n, cpu := 1<<30, int64(1)<<40
	mark := stall.NewMark(noon, noon, annotations.StallEvidence{LastLine: noon, Thread: thread, Error: class, Stopped: true, UI: annotations.UISilent, Executors: &n, CPU: &cpu})
	if len(mark.Message) > 1024 || len(mark.String()) > 2048 || !json.Valid([]byte(mark.String())) {
		t.Errorf("%d and %d bytes", len(mark.Message), len(mark.String()))
	}
	if unsure := stall.NewMark(noon, noon, annotations.StallEvidence{UI: annotations.UIAnswers, Executors: &n, CPU: &cpu}); len(unsure.Message) > 1024 {
		t.Errorf("%d bytes", len(unsure.Message))
	}
}

func TestMassSilence(t *testing.T) {
	many := func(namespace string, silent, others int) (all []stall.Watched) {
		for i := range silent + others {
			w := stall.Watched{Namespace: namespace, State: stall.Logs}
			if i < silent {
				w.State = stall.FellSilent
			}
			all = append(all, w)
		}
		return all
	}
	five := func(silent, others int) (all []stall.Watched) { // in each of five namespaces
		for _, namespace := range []string{"b", "c", "d", "e", "f"} {
			all = append(all, many(namespace, silent, others)...)
		}
		return all
	}
	for name, c := range map[string]struct {
		all  []stall.Watched
		want bool
	}{
		"one":                             {many("a", 1, 0), false},
		"four of four":                    {many("a", 4, 0), false},
		"five of nine":                    {many("a", 5, 4), true},
		"five of ten":                     {many("a", 5, 5), false},
		"a stranger's thousand":           {append(many("stranger", 1000, 0), many("a", 1, 0)...), false},
		"one of each of six namespaces":   {slices.Concat(five(1, 0), many("a", 1, 0)), true},
		"most of each of six namespaces":  {slices.Concat(five(2, 1), many("a", 3, 2)), true},
		"half of this one":                {slices.Concat(five(1, 0), many("a", 1, 1)), false},
		"one of a hundred in each of six": {slices.Concat(five(1, 99), many("a", 1, 99)), false},
		"five of ten namespaces":          {slices.Concat(five(0, 1), many("a", 1, 0), many("g", 1, 0), many("h", 1, 0), many("i", 1, 0), many("j", 1, 0)), false},
	} {
		want := stall.None
		if c.want {
			want = stall.Certain
		}
		if got := stall.MassSilenceOf(c.all, "a"); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Drivers that are late may have fallen silent too; of those that cannot be read nothing
// is expected. Neither makes a mass silence that is certain less certain.
func TestUncertainMassSilence(t *testing.T) {
	for name, c := range map[string]struct {
		silent, logs, late, unread int
		want                       stall.MassSilence
	}{
		"all are known":              {5, 4, 0, 0, stall.Certain},
		"few are late":               {5, 2, 2, 0, stall.Certain},
		"few cannot be read":         {5, 2, 0, 2, stall.Certain},
		"half is late":               {5, 0, 5, 0, stall.Probable},
		"half cannot be read":        {5, 0, 0, 5, stall.Probable},
		"only with those late":       {4, 1, 1, 0, stall.Possible},
		"all others are late":        {1, 0, 9, 0, stall.Possible},
		"not even with those late":   {1, 8, 7, 0, stall.None},
		"all others cannot be read":  {1, 0, 0, 9, stall.None},
		"unread ones are not silent": {4, 1, 0, 9, stall.None},
	} {
		var all []stall.Watched
		for state, n := range map[stall.State]int{stall.FellSilent: c.silent, stall.Logs: c.logs, stall.Late: c.late, stall.Unread: c.unread} {
			all = append(all, slices.Repeat([]stall.Watched{{Namespace: "a", State: state}}, n)...)
		}
		if got := stall.MassSilenceOf(all, "a"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
