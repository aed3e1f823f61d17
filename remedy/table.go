package remedy

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
)

// candidate is a plan that may go one step further.
type candidate struct {
	*Application
	profile string
	plan    annotations.RemedyPlan
	newest  *oom.Termination // the death because of which it may
}

// tasks returns how many tasks an executor runs at a time with so many cores.
func (c *candidate) tasks(cores int) int { return cores / c.Settings.TaskCPUs }

// fewerCores returns the cores for the next step: for half of the tasks that Spark
// gives an executor, and then for one.
func (c *candidate) fewerCores() int {
	tasks := 1
	if !c.plan.Changes() {
		tasks = max(c.tasks(c.plan.FromCores)/2, 1)
	}
	return tasks * c.Settings.TaskCPUs
}

// refusals is the table of reasons to do nothing, or nothing more. The first that holds
// is told. An executor with fewer cores must never make an application wait for a task
// that fits nowhere.
var refusals = []struct {
	why   func(*candidate) string
	holds func(*candidate) bool
}{
	{says("the driver's UI did not say how many cores a task needs"), func(c *candidate) bool { return c.Settings == nil }},
	// Unset means that Spark decides when the first executor runs out of memory (4.3.0).
	// Before 4.2 there is no such key.
	{says("Spark's own recovery mode may act on the same deaths; set spark.kubernetes.allocation.recoveryMode.enabled=false"),
		func(c *candidate) bool { return c.Driver.IsAtLeast("4.2") && c.Settings.RecoveryMode != "false" }},
	{says("the number of cores of a task is not whole"), func(c *candidate) bool { return c.Settings.TaskCPUs < 1 || c.Settings.MaxTaskCPUs < 1 }},
	// Devices limit how many tasks run, or a task needs its own.
	{says("the application uses resources such as GPUs, which decide how many tasks run"), func(c *candidate) bool { return c.Settings.OtherResources }},
	{func(c *candidate) string {
		return "the application uses " + c.Settings.Slots + ", which may need several tasks at a time"
	},
		func(c *candidate) bool { return c.Settings.Slots != "" }},
	// Spark divides the limit by the executor's cores of its configuration, so a worker
	// gets no more with fewer tasks (PythonRunner.scala).
	{says("spark.executor.pyspark.memory limits each Python worker, however few there are"), func(c *candidate) bool {
		return c.newest.Settings != nil && c.newest.Settings.PySparkMiB > 0 && c.newest.Cause == oom.ChildOOMKilled
	}},
	{says("an executor already runs one task at a time, and only more memory or smaller tasks help"), func(c *candidate) bool { return c.tasks(c.plan.ToCores) < 2 }},
	// Tasks of another resource profile may run on the same executors.
	{func(c *candidate) string {
		return fmt.Sprintf("some tasks of the application need %d cores each", c.Settings.MaxTaskCPUs)
	}, func(c *candidate) bool { return c.fewerCores() < c.Settings.MaxTaskCPUs }},
}

func says(why string) func(*candidate) string { return func(*candidate) string { return why } }

// refusal returns why a plan goes no step further, or "".
func (c *candidate) refusal() string {
	for _, row := range refusals {
		if row.holds(c) {
			return row.why(c)
		}
	}
	return ""
}
