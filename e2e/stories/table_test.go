package stories

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// table is what the stories saw, a row each.
type table struct {
	mu   sync.Mutex
	rows []string
}

var theTable = &table{}

const heading = "STORY\tSPARK\t\tRESULT\tLENGTH\tWARNING EVENTS\tSTATUS WRITES\tSEEN"

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nWith and without spark-vitals, on %s. Events and writes are those of all pods of the application.\n", theLab.Machine())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, row := range t.rows {
		fmt.Fprintln(w, row)
	}
	w.Flush()
	return b.String()
}

// add a row for a run; seen is what the story found out.
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
	t.mu.Lock()
	defer t.mu.Unlock()
	test.Logf("%s: %s, %s, %d Warning Events, %d status writes; %s", with, result, o.length.Round(time.Second), o.warnings, o.writes, seen)
	t.rows = append(t.rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s", story, r.Version, with, result, o.length.Round(time.Second), o.warnings, o.writes, seen))
}

// outcome is what became of a run.
type outcome struct {
	result           string // of the driver: phase and exit code
	length           time.Duration
	warnings, writes int
	lost, restarted  []string // executors
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
		o.lost = lost(h)
	})
	return o
}

// lost are the executors that failed, or were ended by a probe, while their
// driver still ran: those that end with it end with 143, and Spark calls no one
// of them lost.
func lost(h *lab.History) (names []string) {
	driver := h.Driver()
	for _, pod := range h.Pods(spark.Executor) {
		ended := pod.Terminated()
		if ended == nil || !h.Killed(pod) && (ended.ExitCode == 0 || ended.ExitCode == 143) {
			continue
		}
		driverEnded := driver.Terminated()
		if driverEnded != nil && !ended.FinishedAt.Time.Before(driverEnded.FinishedAt.Add(-3*time.Second)) {
			continue
		}
		names = append(names, fmt.Sprintf("%s (%d %s)", pod.Last.Name, ended.ExitCode, ended.Reason))
	}
	return names
}
