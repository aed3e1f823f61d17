package remedy

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// candidate is a plan that may go one step further.
type candidate struct {
	*Application
	terms  annotations.RemedyTerms
	plan   annotations.RemedyPlan
	newest *oom.Termination // the death because of which it may
}

// next returns the plan after one more step:
//  1. half of the tasks that Spark gives an executor;
//  2. one task, and more memory;
//  3. still more memory, and so on up to the rule's ceiling.
//
// If fewer tasks are refused, there is more memory at once. If both are refused, the plan
// stays, and says why.
func (c *candidate) next() annotations.RemedyPlan {
	next, cores, memory := c.plan, c.refusal(ofCores), c.refusal(ofMemory)
	if cores == "" {
		next.ToCores = c.fewerCores()
	}
	if memory == "" && (cores != "" || c.plan.FewerCores()) {
		next.Memory = c.moreMemory()
	}
	if cores != "" && memory != "" {
		next.Refused = cores + ", and " + memory
	}
	return next
}

// tasks returns how many tasks an executor runs at a time with so many cores.
func (c *candidate) tasks(cores int) int { return cores / c.Settings.TaskCPUs }

// fewerCores returns the cores for the next step.
func (c *candidate) fewerCores() int {
	tasks := 1
	if !c.plan.FewerCores() {
		tasks = max(c.tasks(c.plan.FromCores)/2, 1)
	}
	return tasks * c.Settings.TaskCPUs
}

// memory returns the memory that the plan gives an executor, or Spark.
func (c *candidate) memory() annotations.RemedyMemory {
	if c.plan.Memory != nil {
		return *c.plan.Memory
	}
	limit, heap := c.newest.LimitMiB, c.newest.HeapMiB
	return annotations.RemedyMemory{FromLimitMiB: limit, ToLimitMiB: limit, FromHeapMiB: heap, ToHeapMiB: heap}
}

// moreMemory returns the memory for the next step.
func (c *candidate) moreMemory() *annotations.RemedyMemory {
	m := c.memory()
	m.Executors = max(m.Executors, c.Executors[c.plan.Profile])
	m = Raise(m, c.newest.Cause == oom.HeapOOM, c.terms.MaxMemoryMiB)
	return &m
}

// Raise returns the memory for a step: half as much again, at least 512 MiB more, and at
// most a limit of so many MiB. A full heap gets it as heap, with a tenth more beside it.
func Raise(m annotations.RemedyMemory, heapIsFull bool, ceiling int64) annotations.RemedyMemory {
	if !heapIsFull {
		m.ToLimitMiB = min(grown(m.ToLimitMiB), ceiling)
		return m
	}
	more := grown(m.ToHeapMiB) - m.ToHeapMiB
	if m.ToHeapMiB < mostCompressed {
		more = min(more, mostCompressed-m.ToHeapMiB)
	}
	if room := ceiling - m.ToLimitMiB; more+more/10 > room {
		more = room * 10 / 11
	}
	m.ToHeapMiB, m.ToLimitMiB = m.ToHeapMiB+more, m.ToLimitMiB+more+more/10
	return m
}

func grown(mib int64) int64 { return mib + max(mib/2, 512) }

// mostCompressed is the largest heap in MiB with compressed references. A JVM with a
// little more holds fewer objects (HotSpot's limit is 32 GiB).
const mostCompressed = 31 << 10

// LeastMore is the least amount in MiB by which it is worth raising memory.
const LeastMore = 128

// row is a reason to do nothing, or nothing more.
type row struct {
	why   func(*candidate) string
	holds func(*candidate) bool
}

func says(why string, holds func(*candidate) bool) row {
	return row{func(*candidate) string { return why }, holds}
}

// barrierStage is of the table, and takes a plan for fewer cores back, too.
var barrierStage = says("a job has a barrier stage, which needs all of its tasks to run at the same time", func(c *candidate) bool { return c.hasBarrier() })

// ofCores is the table of reasons not to take cores. The first that holds is told. An
// executor with fewer cores must never make an application wait for a task that fits
// nowhere.
var ofCores = []row{
	says("the driver's UI did not say how many cores a task needs", func(c *candidate) bool { return c.Settings == nil }),
	says("the driver's UI did not show the stages of its jobs", func(c *candidate) bool { return c.Barrier == nil }),
	barrierStage,
	// Unset means that Spark decides when the first executor runs out of memory (4.3.0).
	// Before 4.2 there is no such key.
	says("Spark's own recovery mode may act on the same deaths; set spark.kubernetes.allocation.recoveryMode.enabled=false",
		func(c *candidate) bool { return c.Driver.IsAtLeast("4.2") && c.Settings.RecoveryMode != "false" }),
	says("the number of cores of a task is not whole", func(c *candidate) bool { return c.Settings.TaskCPUs < 1 || c.Settings.MaxTaskCPUs < 1 }),
	// Devices limit how many tasks run, or a task needs its own.
	says("the application uses resources such as GPUs, which decide how many tasks run", func(c *candidate) bool { return c.Settings.OtherResources }),
	{func(c *candidate) string {
		return "the settings name " + c.Settings.Slots + ", which may need several tasks at a time"
	},
		func(c *candidate) bool { return c.Settings.Slots != "" }},
	// Spark divides the limit by the executor's cores of its configuration, so a worker
	// gets no more with fewer tasks (PythonRunner.scala).
	says("spark.executor.pyspark.memory limits each Python worker, however few there are", func(c *candidate) bool {
		m, _ := c.Settings.Of(c.plan.Profile)
		return m.PySpark > 0 && c.Driver.Language() == spark.Python && c.newest.Cause == oom.ChildOOMKilled
	}),
	says("an executor already runs one task at a time", func(c *candidate) bool { return c.tasks(c.plan.ToCores) < 2 }),
	// Tasks of another resource profile may run on the same executors.
	{func(c *candidate) string {
		return fmt.Sprintf("some tasks of the application need %d cores each", c.Settings.MaxTaskCPUs)
	}, func(c *candidate) bool { return c.fewerCores() < c.Settings.MaxTaskCPUs }},
}

// ofMemory is the table of reasons not to give more memory.
var ofMemory = []row{
	// Its UI may answer at the next death.
	says("fewer tasks come first", func(c *candidate) bool {
		return (c.Settings == nil || c.Barrier == nil) && c.plan.ToCores > 1 && c.terms.MaxMemoryMiB > 0
	}),
	says("the rule has no maxMemory, so memory is not raised", func(c *candidate) bool { return c.terms.MaxMemoryMiB == 0 }),
	says("more memory was withdrawn", func(c *candidate) bool { return c.plan.Withdrawn != "" }),
	says("the pod does not show its heap", func(c *candidate) bool { return c.memory().FromHeapMiB < 1 }),
	says("the heap alone fills the limit", func(c *candidate) bool { return c.memory().FromLimitMiB <= c.memory().FromHeapMiB }),
	{func(c *candidate) string { return fmt.Sprintf("the rule's maxMemory is %d MiB", c.terms.MaxMemoryMiB) },
		func(c *candidate) bool { return c.terms.MaxMemoryMiB-c.memory().ToLimitMiB < LeastMore }},
}

// refusal returns the first reason of a table that holds, or "".
func (c *candidate) refusal(table []row) string {
	for _, row := range table {
		if row.holds(c) {
			return row.why(c)
		}
	}
	return ""
}
