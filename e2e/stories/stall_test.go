package stories

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

// stalled is a story of a driver that stops logging.
type stalled struct {
	story
	// hangs makes it silent and returns since when; nil if it works, and must not be
	// reported.
	hangs func(*testing.T, *run) time.Time
	// says checks what is reported.
	says func(*testing.T, *annotations.StallMark)
	// ends checks what becomes of it; nil: it stays as it is.
	ends func(*testing.T, *run)
}

// watched lets a driver be silent for a minute.
func watched(more ...string) map[string]string { return watchedFor("1m", more...) }

// watchedFor lets a driver be silent for so long, and has its UI asked every third of it.
func watchedFor(after string, more ...string) map[string]string {
	c := conf("spark.kubernetes.driver.annotation.spark-vitals.io/logStall", "true",
		"spark.kubernetes.driver.annotation.spark-vitals.io/logStall.after", after)
	maps.Copy(c, conf(more...))
	return c
}

var noLiveness = []string{livenessOff, "false"}

// denied is the configuration of a UI whose filter lets nobody in.
var denied = []string{"spark.driver.extraClassPath", "/opt/classes", "spark.ui.filters", "e2e.Deny"}

const livenessOff = "spark.kubernetes.driver.annotation.spark-vitals.io/liveness"

var stallStories = []stalled{
	{
		story: story{name: "stall-scheduler", why: "the thread that schedules jobs died: Spark stops its context, and the job waits", host: true, versions: lab.Versions,
			app: app{file: "stall.py", args: []string{"scheduler"}, conf: watched(), driver: shortGrace}},
		hangs: untilHangs, says: stopped,
	},
	{
		story: story{name: "stall-deadlock", why: "two threads of the program wait for each other", host: true, versions: lab.Versions,
			app: app{file: "stall.py", args: []string{"deadlock"}, conf: watched(), driver: shortGrace}},
		hangs: untilHangs, says: unsure,
	},
	{
		story: story{name: "stall-main", why: "the main thread and another one wait for each other's locks", host: true, versions: lab.Versions,
			app: app{class: "e2e.Hang", args: []string{"deadlock"}, conf: watched(), driver: shortGrace}},
		hangs: untilHangs, says: showing(annotations.ThreadsDeadlocked, annotations.Sure, "e2e.Hang.take"),
	},
	{
		story: story{name: "stall-lock", why: "the main thread waits for a lock that another one holds", host: true, versions: lab.Versions,
			app: app{class: "e2e.Hang", args: []string{"lock"}, conf: watched(), driver: shortGrace}},
		hangs: untilHangs, says: showing(annotations.ThreadsWaitForLock, annotations.Unsure, "e2e.Hang.lock"),
	},
	{
		story: story{name: "stall-idle-scheduler", why: "the thread that schedules jobs died, and the program asks for no other job", host: true, versions: lab.Versions,
			app: app{class: "e2e.Hang", args: []string{"scheduler"}, conf: watched(), driver: shortGrace}},
		hangs: untilHangs, says: showing(annotations.ThreadsNoScheduler, annotations.Sure, "e2e.Hang.main"),
	},
	{
		story: story{name: "stall-stopped", why: "the SparkContext has stopped, and the program continues", host: true, versions: lab.Versions,
			app: app{file: "phases.py", args: []string{"0", "0", "600"}, conf: watched(), driver: shortGrace}},
		hangs: func(t *testing.T, r *run) time.Time { r.untilLog(t, "PHASE stopped"); return time.Now() },
		says:  stopped,
	},
	{
		story: story{name: "stall-frozen", why: "the driver freezes, without a liveness probe; later it continues", host: true, versions: lab.Versions,
			app: app{file: "long.py", args: []string{"600"}, conf: watched(noLiveness...), driver: shortGrace}},
		hangs: func(t *testing.T, r *run) time.Time { r.untilLog(t, "CONTEXT"); return freeze(t, r.driverPod(t)) },
		says: func(t *testing.T, m *annotations.StallMark) {
			if m.Evidence.UI != annotations.UISilent || m.Confidence != annotations.Likely {
				t.Errorf("reported as %s", m)
			}
		},
		ends: func(t *testing.T, r *run) {
			thaw(t, r.driverPod(t))
			r.until(t, "it talks again, and is no longer reported", func(h *lab.History) bool {
				_, still := h.Driver().Last.Annotations[annotations.Stalled]
				return !still && len(h.Events(h.Driver().Last)["DriverTalksAgain"]) > 0
			})
		},
	},
	{
		story: story{name: "stall-warn", why: "a driver that works is silent because its log level is WARN: it is not reported", host: true, versions: lab.Versions,
			app: app{file: "long.py", args: []string{"150"}, conf: watched("spark.log.level", "WARN")}},
	},
	{
		story: story{name: "stall-heap", why: "the heap is exhausted: the log goes on, and the UI gives no data any more, or Spark stops it", versions: lab.Versions,
			app: app{file: "memory.py", args: []string{"zombie", "900", "150"}, conf: watchedFor("5m"), driver: shortGrace}},
		hangs: filled,
		says: func(t *testing.T, m *annotations.StallMark) {
			says := map[bool]string{false: "heap is exhausted", true: "heap was full"}[m.Evidence.Stopped]
			if !m.IsOfHeap() || m.Confidence == annotations.Unsure || !strings.Contains(m.Message, says) {
				t.Errorf("reported as %s", m)
			}
		},
	},
	{
		story: story{name: "stall-heap-stopped", why: "the heap was full, Spark stopped its context, and the program goes on and logs",
			app: app{class: "e2e.Hang", args: []string{"heap"}, conf: watched("spark.driver.memory", "512m"), driver: shortGrace}},
		hangs: untilHangs,
		says: func(t *testing.T, m *annotations.StallMark) {
			if stopped(t, m); !m.IsOfHeap() || !strings.Contains(m.Message, "has stopped because its heap was full") {
				t.Errorf("reported as %s", m)
			}
		},
	},
	{
		story: story{name: "stall-garbage", why: "a driver that does little but collect garbage is not reported", versions: lab.Versions,
			app: app{file: "memory.py", args: []string{"gc", "240"}, conf: watchedFor("5m")}},
	},
	{
		story: story{name: "stall-broadcast", why: "a driver whose query has too little memory, and that goes on, is not reported", versions: lab.Versions,
			app: app{file: "memory.py", args: []string{"broadcast"}, conf: watched()}},
	},
	{
		story: story{name: "stall-login", why: "a driver whose UI lets nobody in is not reported, nor is its start and its end", versions: lab.Versions,
			app: app{file: "long.py", args: []string{"150"}, conf: watched(denied...)}},
	},
}

func TestStall(t *testing.T) {
	for _, s := range stallStories {
		s.run(t, func(t *testing.T, version string) { s.test(t, version) })
	}
}

func (s stalled) test(t *testing.T, version string) {
	r := submit(t, s.name, version, s.app, true)
	if s.hangs == nil {
		r.untilDriverEnds(t)
		if reports := r.Events(r.driverPod(t))["DriverStalled"]; len(reports) > 0 || r.outcome().result != "Succeeded 0" {
			t.Errorf("it ended as %s, reported %v", r.outcome().result, reports)
		}
		theTable.add(t, s.name, r, "not reported")
		return
	}
	since := s.hangs(t, r)
	var text string
	r.until(t, "it is reported as stalled", func(h *lab.History) bool {
		text = h.Driver().Last.Annotations[annotations.Stalled]
		return text != "" && len(h.Events(h.Driver().Last)["DriverStalled"]) > 0
	})
	found := time.Since(since)
	mark, err := annotations.ReadStallMark(text)
	if err != nil {
		t.Fatal(err)
	}
	if silent := mark.Found.Sub(mark.Since); silent < time.Minute {
		t.Errorf("reported after a silence of %s", silent)
	}
	s.says(t, mark)
	if r.driverEnd() != nil {
		t.Error("the driver has ended")
	}
	if s.ends != nil {
		s.ends(t, r)
	}
	theTable.add(t, s.name, r, fmt.Sprintf("reported after %s, %s", seconds(found), mark.Confidence))
}

func untilHangs(t *testing.T, r *run) time.Time {
	r.untilLog(t, "HANGS")
	return time.Now()
}

// showing checks a report about what the threads of the program do, and where they are.
func showing(do annotations.ThreadsDo, confidence annotations.Confidence, at string) func(*testing.T, *annotations.StallMark) {
	return func(t *testing.T, m *annotations.StallMark) {
		t.Helper()
		if found := m.Evidence.Threads; found == nil || found.Do != do || m.Confidence != confidence || !strings.Contains(m.Message, at) {
			t.Errorf("reported as %s", m)
		}
	}
}

// stopped checks a report about a JVM that runs on without its SparkContext and its UI.
func stopped(t *testing.T, m *annotations.StallMark) {
	t.Helper()
	if !m.Evidence.Stopped || m.Evidence.UI == annotations.UISilent || m.Confidence != annotations.Likely {
		t.Errorf("reported as %s", m)
	}
}

// unsure checks a report about a driver that looks like a healthy one: the UI answers
// and executors run.
func unsure(t *testing.T, m *annotations.StallMark) {
	t.Helper()
	e := m.Evidence
	if m.Confidence != annotations.Unsure || e.UI != annotations.UIAnswers || e.Executors == nil || *e.Executors == 0 || !strings.Contains(m.Message, "It may not hang") {
		t.Errorf("reported as %s", m)
	}
}
