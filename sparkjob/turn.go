package sparkjob

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spark-vitals/spark-vitals/oom"
)

// Turn returns the last good run and the first bad one after it, of runs with the newest
// first. bad is nil if the last run that ended was good, and good is nil if no good run is
// known. Runs that somebody stopped, or whose end nobody saw, do not count.
func Turn(runs []Run) (good, bad *Run) {
	for i := range runs {
		switch r := &runs[i]; {
		case r.State.IsBad():
			bad = r
		case r.State == Succeeded && bad == nil:
			return nil, nil
		case r.State == Succeeded:
			return r, bad
		}
	}
	return nil, bad
}

// Difference is what differs between two runs.
type Difference struct {
	What string `json:"what"`
	From string `json:"from"`
	To   string `json:"to"`
}

func (d Difference) String() string { return fmt.Sprintf("%s %s, was %s", d.What, d.To, d.From) }

// aspects are what runs are compared by. A value of "" is not known.
var aspects = []struct {
	what string
	of   func(*Run) string
}{
	{"the version of Spark", func(r *Run) string { return r.Version }},
	{"spark.driver.memory", func(r *Run) string { return memory(r.Settings.Driver.HeapMiB) }},
	{"spark.driver.memoryOverhead", func(r *Run) string { return memory(r.Settings.Driver.OverheadMiB) }},
	{"the limit of the driver", func(r *Run) string { return mebibytes(r.Settings.Driver.LimitMiB) }},
	{"spark.executor.memory", func(r *Run) string { return memory(r.Settings.Executor.HeapMiB) }},
	{"spark.executor.memoryOverhead", func(r *Run) string { return memory(r.Settings.Executor.OverheadMiB) }},
	{"spark.memory.offHeap.size", func(r *Run) string { return memory(r.Settings.Executor.OffHeapMiB) }},
	{"spark.executor.pyspark.memory", func(r *Run) string { return memory(r.Settings.Executor.PySparkMiB) }},
	{"the limit of executors", func(r *Run) string { return mebibytes(r.Settings.Executor.LimitMiB) }},
	{"spark.executor.cores", func(r *Run) string { return number(r.Settings.Executor.Cores) }},
	{"spark.task.cpus", func(r *Run) string { return number(r.Settings.Executor.TaskCPUs) }},
}

// measures are what was measured of runs. Two runs are never the same in these, so only
// large differences count.
var measures = []struct {
	what string
	of   func(*Run) int64
}{
	{"the heap of the driver", func(r *Run) int64 { return r.Peaks.Driver.HeapMiB }},
	{"the heap of executors", func(r *Run) int64 { return r.Peaks.Executor.HeapMiB }},
	{"the JVM of executors", func(r *Run) int64 { return r.Peaks.Executor.JVMMiB }},
	{"Python of executors", func(r *Run) int64 { return r.Peaks.Executor.PythonMiB }},
	{"other processes of executors", func(r *Run) int64 { return r.Peaks.Executor.OtherMiB }},
}

// largeDifference is a percentage.
const largeDifference = 20

// Differences returns what differs between two runs, as far as it is known of both.
func Differences(before, after *Run) (all []Difference) {
	for _, a := range aspects {
		if from, to := a.of(before), a.of(after); from != to && from != "" && to != "" {
			all = append(all, Difference{a.what, from, to})
		}
	}
	for _, m := range measures {
		from, to := m.of(before), m.of(after)
		if from > 0 && to > 0 && 100*max(from-to, to-from) >= largeDifference*from {
			all = append(all, Difference{m.what + " (peak)", mebibytes(from), mebibytes(to)})
		}
	}
	return all
}

// advise returns what to do about a job, in words: what its last run that died advises,
// what has changed since the last good one, what the next one starts with, and what could
// be given back.
func advise(runs []Run, next Containers[Next]) string {
	var all []string
	good, bad := Turn(runs)
	if bad != nil {
		for i := range runs { // the newest that has one
			if runs[i].Message != "" {
				all = append(all, runs[i].Message)
				break
			}
		}
	}
	if good != nil {
		if differences := Differences(good, bad); len(differences) > 0 {
			var texts []string
			for _, d := range differences {
				texts = append(texts, d.String())
			}
			all = append(all, "Since the last good run: "+strings.Join(texts, "; ")+".")
		}
	}
	all = append(all, Explain(next)...)
	for _, s := range GivesBack(runs) {
		all = append(all, s.String())
	}
	return strings.Join(all, " ")
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func mebibytes(mib int64) string {
	if mib == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", mib)
}

// memory writes MiB in the form of Spark's settings, or "" if it is not known.
func memory(mib int64) string {
	if mib == 0 {
		return ""
	}
	return oom.Memory(mib)
}
