package stories

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// row of the table: a story on a version of Spark, and what was seen with spark-vitals,
// or without.
type row struct {
	story, version string
	with           bool
	seen           string
}

var theTable = &table{}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nWith and without spark-vitals, on %s. Warning Events are those of all pods of the application.\n", theLab.Machine())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORY\tSPARK\t\tSEEN")
	for _, row := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", row.story, row.version, side(row.with), row.seen)
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
	if o.length > 0 {
		result += ", " + seconds(o.length)
	}
	plural := "s"
	if o.warnings == 1 {
		plural = ""
	}
	result = listed(fmt.Sprintf("%s, %d Warning%s", result, o.warnings, plural), seen)
	test.Logf("%s: %s; %d status writes", side(r.with), result, o.writes)
	t.addRow(row{story, r.Version, r.with, result})
}

func side(with bool) string {
	if with {
		return "with"
	}
	return "without"
}

// listed puts a semicolon between texts, and leaves out empty ones.
func listed(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
}

// note adds a row for a story without an application, with its duration.
func (t *table) note(test *testing.T, story, version, seen string, length time.Duration) {
	result := ""
	if test.Failed() {
		result = "FAILED"
	}
	test.Log(seen)
	t.addRow(row{story, version, true, listed(result, seconds(length), seen)})
}

func (t *table) addRow(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// writeInto writes the table into a page of the project, and the stories of a remedy into
// remedy.md next to it.
func (t *table) writeInto(file string) error {
	remedies := filepath.Join(filepath.Dir(file), "remedy.md")
	for _, page := range []string{file, remedies} {
		rows := slices.DeleteFunc(slices.Clone(t.rows), func(r row) bool {
			return (page == remedies) != strings.HasPrefix(r.story, "remedy-")
		})
		if len(rows) == 0 {
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if err := os.WriteFile(page, []byte(withRows(string(text), rows)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withRows returns a page with rows in its table of stories. A cell of the same story,
// version and side is replaced, and others are kept. A new row is the table's last.
func withRows(page string, rows []row) string {
	lines := strings.Split(page, "\n")
	for _, row := range rows {
		key := fmt.Sprintf("| %s | %s |", row.story, row.version)
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, key) })
		if i < 0 {
			i = max(slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| story |") }), 0)
			for i < len(lines) && strings.HasPrefix(lines[i], "|") {
				i++
			}
			lines = slices.Insert(lines, i, key+" | |")
		}
		cells, at := strings.Split(lines[i], "|"), 3
		if !row.with {
			at = 4
		}
		cells[at] = " " + row.seen + " "
		lines[i] = strings.Join(cells, "|")
	}
	return strings.Join(lines, "\n")
}

// Rows of a story become the last of the page's table, wherever that is.
func TestWithRows(t *testing.T) {
	const page = "# Page\n| story | Spark | with | without |\n|---|---|---|---|\n| a | 3.5.9 | old | old |\n\n## After it\n| other |\n|---|\n"
	const want = "# Page\n| story | Spark | with | without |\n|---|---|---|---|\n| a | 3.5.9 | old | new |\n| b | 3.5.9 | new | |\n\n## After it\n| other |\n|---|\n"
	if got := withRows(page, []row{{"a", "3.5.9", false, "new"}, {"b", "3.5.9", true, "new"}}); got != want {
		t.Error(got)
	}
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
