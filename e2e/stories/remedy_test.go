package stories

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedied is a story of an application whose executors die of memory, with a rule that
// has a remedy and without spark-vitals.
type remedied struct {
	story
	// cores are what the executors had at last, "" if none is changed.
	cores string
	// refused is what the driver's message says if nothing is changed.
	refused string
	// fails: the application fails with the remedy too.
	fails bool
	// group: the whole container is killed.
	group bool
}

// remedying returns a story with the application's settings. Spark's own recovery mode,
// since 4.2, is off.
func remedying(name, why, cores string, a app, more ...string) remedied {
	c := conf(append(more, "spark.kubernetes.executor.label."+lab.RemedyLabel, "enabled")...)
	if _, set := c[recoveryMode]; !set {
		c[recoveryMode] = "false"
	}
	maps.Copy(c, a.conf)
	a.conf = c
	return remedied{story: story{name: name, why: why, app: a, versions: lab.Versions}, cores: cores}
}

const recoveryMode = "spark.kubernetes.allocation.recoveryMode.enabled"

func (r remedied) inCI() remedied               { r.ci = newest; return r }
func (r remedied) on(v ...string) remedied      { r.versions = v; return r }
func (r remedied) killed() remedied             { r.group, r.host = true, true; return r }
func (r remedied) refusing(why string) remedied { r.refused, r.fails = why, true; return r }

var (
	// manyRows fills the heap if three tasks run at a time, and not if one does.
	manyRows = app{file: "memory.py", args: []string{"rows", "6", "16000000"}}
	// manyWorkers are over the limit if two run at a time, and not if one does.
	manyWorkers = app{file: "memory.py", args: []string{"workers", "380"}}
)

var remedyStories = []remedied{
	remedying("remedy-heap", "three tasks at a time fill the heap", "1", manyRows, "spark.executor.cores", "3").inCI(),
	remedying("remedy-python", "two Python workers at a time are over the limit; the whole container is killed", "1", manyWorkers, "spark.executor.cores", "2").killed(),
	remedying("remedy-task-cpus", "a task takes all five cores, so one runs at a time already", "", manyRows,
		"spark.executor.cores", "5", "spark.task.cpus", "5").refusing("an executor already runs one task at a time"),
	remedying("remedy-recovery", "Spark's own recovery mode is on", "", manyRows,
		"spark.executor.cores", "3", recoveryMode, "true").refusing("Spark's own recovery mode").on(newest),
	remedying("remedy-audit", "the rule is in audit: the stamps say what would be done, and nothing changes", "", manyRows,
		"spark.executor.cores", "3", "spark.kubernetes.executor.annotation."+annotations.RemedyMode, "audit").refusing("If the remedy were enabled, new executors would start with 1 core instead of 3").on(oldest),
	remedying("remedy-off", "the driver's annotation turns it off", "", manyRows,
		"spark.executor.cores", "3", "spark.kubernetes.driver.annotation."+annotations.RemedyMode, "disabled").refusing("").on(oldest),
}

func TestRemedies(t *testing.T) {
	for _, s := range remedyStories {
		s.run(t, func(t *testing.T, version string) {
			if s.group {
				killWhole(t)
			}
			with, without := both(t, s.name, version, s.app)
			for _, r := range []*run{with, without} {
				r.untilDriverEnds(t)
			}
			s.check(t, with)
			if got := without.outcome().result; got == succeeded && !s.mayHelpItself() {
				t.Errorf("without a remedy it is %s, so the story shows nothing", got)
			}
			for _, r := range []*run{with, without} {
				theTable.add(t, s.name, r, r.executorsSeen())
			}
		})
	}
}

const succeeded = "Succeeded 0"

// mayHelpItself reports whether Spark itself acts on the deaths.
func (s remedied) mayHelpItself() bool { return s.app.conf[recoveryMode] == "true" }

// check checks the result, the executors and the driver's message.
func (s remedied) check(t *testing.T, r *run) {
	t.Helper()
	if got := r.outcome().result; (got == succeeded) == s.fails && !s.mayHelpItself() {
		t.Errorf("it is %s", got)
	}
	driver := r.driverPod(t)
	message := driver.Annotations[annotations.Message]
	t.Log(message, driver.Annotations[annotations.Remedy])
	if !strings.Contains(message, s.refused) {
		t.Errorf("the message does not say %q", s.refused)
	}
	last := ""
	r.Look(func(h *lab.History) {
		for _, pod := range h.Pods(spark.Executor) {
			executor, err := spark.PodOf(pod.Last)
			if err != nil {
				t.Fatal(err)
			}
			stamp := annotations.ReadRemedyStamp(pod.Last.Annotations[annotations.Remedied])
			if ended := pod.Terminated(); ended != nil {
				t.Logf("%s: created %s, %d cores, ended %s with %d", pod.Last.Name, pod.Last.CreationTimestamp.UTC().Format(time.TimeOnly), executor.Cores(), ended.FinishedAt.UTC().Format(time.TimeOnly), ended.ExitCode)
			}
			changed := stamp.ToCores > 0 && stamp.Mode == ""
			if changed {
				last = fmt.Sprint(executor.Cores())
			}
			if !changed && fmt.Sprint(executor.Cores()) != s.app.conf["spark.executor.cores"] || changed && executor.Cores() != stamp.ToCores {
				t.Errorf("%s has %d cores, its stamp is %+v", pod.Last.Name, executor.Cores(), stamp)
			}
		}
	})
	if last != s.cores {
		t.Errorf("the last executors have %q cores, want %q", last, s.cores)
	}
}

// executorsSeen says how many executors were lost, and how many were changed.
func (r *run) executorsSeen() string {
	lost, changed, all := 0, 0, 0
	r.Look(func(h *lab.History) {
		for _, pod := range h.Pods(spark.Executor) {
			all++
			if ended := pod.Terminated(); ended != nil && (ended.ExitCode == 52 || ended.Reason == "OOMKilled") || pod.Last.Status.Phase == corev1.PodFailed && ended == nil {
				lost++
			}
			if annotations.ReadRemedyStamp(pod.Last.Annotations[annotations.Remedied]).ToCores > 0 {
				changed++
			}
		}
	})
	text := fmt.Sprintf("%d of %d executors died of memory", lost, all)
	if changed > 0 {
		text += fmt.Sprintf(", %d got fewer cores", changed)
	}
	return text
}
