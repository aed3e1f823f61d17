package stories

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// table is the result of the stories, a row for each run.
type table struct {
	mu   sync.Mutex
	rows []row
}

// row is a row of the table: the story, and what was seen.
type row struct {
	story, version, with string
	seen                 [5]string // result, length, Warning Events, status writes, and what else
}

func (r row) cells() []string { return append([]string{r.story, r.version, r.with}, r.seen[:]...) }

var theTable = &table{}

var heading = row{"STORY", "SPARK", "", [5]string{"RESULT", "LENGTH", "WARNING EVENTS", "STATUS WRITES", "SEEN"}}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nWith and without spark-vitals, on %s. Events and writes are those of all pods of the application.\n", theLab.Machine())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([]row{heading}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row.cells(), "\t"))
	}
	w.Flush()
	return b.String()
}

// add adds a row for a run; seen is what the story found out.
func (t *table) add(test *testing.T, story string, r *run, seen string) {
	o := r.outcome()
	result := o.result
	if test.Failed() {
		result += " (FAILED)"
	}
	with := "without"
	if r.with {
		with = "with"
	}
	test.Logf("%s: %s, %s, %d Warning Events, %d status writes; %s", with, result, o.length.Round(time.Second), o.warnings, o.writes, seen)
	length := ""
	if o.length > 0 {
		length = seconds(o.length)
	}
	t.addRow(row{story, r.Version, with, [5]string{result, length, strconv.Itoa(o.warnings), strconv.Itoa(o.writes), seen}})
}

// note adds a row for a story without an application, with its duration.
func (t *table) note(test *testing.T, story, version, seen string, length time.Duration) {
	result := ""
	if test.Failed() {
		result = "FAILED"
	}
	test.Log(seen)
	t.addRow(row{story, version, "with", [5]string{result, seconds(length), "", "", seen}})
}

func (t *table) addRow(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// writeInto writes the table into a page of the project. It replaces rows of the same
// story, version and side, and keeps others.
func (t *table) writeInto(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for _, row := range t.rows {
		cells := row.cells()
		line := "| " + strings.ReplaceAll(strings.Join(cells, " | "), "  ", " ") + " |"
		key := "| " + strings.Join(cells[:3], " | ") + " |"
		if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, key) }); i >= 0 {
			lines[i] = line
		} else {
			lines = append(lines, line)
		}
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// outcome is the result of a run.
type outcome struct {
	result           string // of the driver: phase and exit code
	length           time.Duration
	warnings, writes int
	restarted        []string
}

func (r *run) outcome() (o outcome) {
	r.Look(func(h *lab.History) {
		driver := h.Driver()
		if driver == nil {
			o.result = "no driver"
			return
		}
		o.result = string(driver.Last.Status.Phase)
		if ended := driver.Terminated(); ended != nil {
			o.result += fmt.Sprintf(" %d", ended.ExitCode)
			o.length = ended.FinishedAt.Sub(ended.StartedAt.Time)
		}
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			for _, pod := range h.Pods(role) {
				o.warnings += h.Warnings(pod.Last)
				o.writes += pod.Writes
				for _, status := range pod.Last.Status.ContainerStatuses {
					if status.RestartCount > 0 {
						o.restarted = append(o.restarted, pod.Last.Name)
					}
				}
			}
		}
	})
	return o
}

// lost returns the executors that failed or were ended by a probe before their driver
// began to stop, by its log. Executors that end with the driver exit with 143, and
// Spark does not call them lost.
func (r *run) lost(log string) (names []string) {
	stopping := logged(log, "SparkContext is stopping")
	r.Look(func(h *lab.History) {
		for _, pod := range h.Pods(spark.Executor) {
			ended := pod.Terminated()
			if ended == nil || !h.Killed(pod) && (ended.ExitCode == 0 || ended.ExitCode == 143) {
				continue
			}
			if !stopping.IsZero() && !ended.FinishedAt.Time.Before(stopping) {
				continue
			}
			names = append(names, fmt.Sprintf("%s (%d %s)", pod.Last.Name, ended.ExitCode, ended.Reason))
		}
	})
	return names
}

// logged returns when Spark first logged a line with one of some texts, in whole
// seconds like a pod's status, or zero.
func logged(log string, texts ...string) time.Time {
	const format = "06/01/02 15:04:05"
	for line := range strings.Lines(log) {
		if slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			continue
		}
		if at, err := time.Parse(format, line[:min(len(format), len(line))]); err == nil {
			return at
		}
	}
	return time.Time{}
}
