package sparkjob_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// carried is a run whose rules let the next one start with what it needed. Its driver has
// a heap of 1 of 1.4 GiB, and its executors four cores.
func carried(i int, state sparkjob.State, change ...func(*sparkjob.Run)) sparkjob.Run {
	r := run(i, state)
	r.Executors = 2
	r.NextRun = sparkjob.Containers[annotations.Mode]{Driver: annotations.Enabled, Executor: annotations.Enabled}
	r.Settings.Driver = sparkjob.Settings{LimitMiB: 1408, HeapMiB: 1024}
	r.Settings.Executor = sparkjob.Settings{LimitMiB: 1408, HeapMiB: 1024, Cores: 4}
	for _, f := range change {
		f(&r)
	}
	return r
}

func driverDied(of oom.Cause) func(*sparkjob.Run) {
	return func(r *sparkjob.Run) {
		r.Deaths = append(r.Deaths, oom.Deaths{Role: spark.Driver, Cause: of, Count: 1})
	}
}

var (
	raised = sparkjob.Change{FromLimitMiB: 1408, ToLimitMiB: 1971, FromHeapMiB: 1024, ToHeapMiB: 1536}
	fewer  = sparkjob.Change{FromCores: 4, ToCores: 1}
)

func hasRaised(r *sparkjob.Run) { r.Remedy.Driver = raised }
func hasFewer(r *sparkjob.Run)  { r.Remedy.Executor = fewer }

func withdrawn(r *sparkjob.Run) { r.Remedy.Executor.Withdrawn = true }

func hasMore(r *sparkjob.Run) {
	r.Remedy.Executor = sparkjob.Change{FromCores: 1, ToCores: 1, FromLimitMiB: 1408, ToLimitMiB: 2112, FromHeapMiB: 1024, ToHeapMiB: 1024, Executors: 2}
	r.Settings.Executor.Cores = 1
}

func fromStart(r *sparkjob.Run) { r.Remedy.Executor.FromStart = true }

func executorDied(r *sparkjob.Run) {
	r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.OOMKilled, Count: 1}}
}

// took says what a run's processes took at most, measured until its end.
func took(heap, all int64) func(*sparkjob.Run) {
	return func(r *sparkjob.Run) {
		p := sparkjob.Peaks{HeapMiB: heap, JVMMiB: all, AllMiB: all}
		if all == 0 {
			p = sparkjob.Peaks{HeapMiB: heap}
		}
		r.Peaks, r.Measured = sparkjob.Containers[sparkjob.Peaks]{Driver: p, Executor: p}, r.Ended
	}
}

// several returns as many runs that are alike.
func alike(n int, change ...func(*sparkjob.Run)) (all []sparkjob.Run) {
	for i := range n {
		all = append(all, carried(i, sparkjob.Succeeded, change...))
	}
	return all
}

func TestNextRunOfDriver(t *testing.T) {
	const s, f, k = sparkjob.Succeeded, sparkjob.Failed, sparkjob.Killed
	for name, c := range map[string]struct {
		runs []sparkjob.Run // the oldest first
		want sparkjob.Change
	}{
		"all is well":                  {alike(3), sparkjob.Change{}},
		"its heap was full":            {[]sparkjob.Run{carried(0, s), carried(1, k, driverDied(oom.HeapOOM))}, raised},
		"the container's limit":        {[]sparkjob.Run{carried(0, k, driverDied(oom.OOMKilled))}, sparkjob.Change{FromLimitMiB: 1408, ToLimitMiB: 2112, FromHeapMiB: 1024, ToHeapMiB: 1024}},
		"once more":                    {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, k, driverDied(oom.HeapOOM), hasRaised)}, sparkjob.Change{FromLimitMiB: 1408, ToLimitMiB: 2815, FromHeapMiB: 1024, ToHeapMiB: 2304}},
		"it is well with more":         {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, s, hasRaised)}, raised},
		"it failed of something else":  {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, f)}, raised},
		"it is well without":           {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, s)}, sparkjob.Change{}},
		"perhaps memory":               {[]sparkjob.Run{carried(0, k, driverDied(oom.Killed))}, sparkjob.Change{}},
		"an executor":                  {[]sparkjob.Run{carried(0, k, func(r *sparkjob.Run) { r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.HeapOOM, Count: 1}} })}, sparkjob.Change{}},
		"its heap is not known":        {[]sparkjob.Run{carried(0, k, driverDied(oom.OOMKilled), func(r *sparkjob.Run) { r.Settings.Driver.HeapMiB = 0 })}, sparkjob.Change{}},
		"local files in memory":        {[]sparkjob.Run{carried(0, k, driverDied(oom.OOMKilled), func(r *sparkjob.Run) { r.Settings.Driver.LocalDirsInMemory = true })}, sparkjob.Change{}},
		"at the ceiling":               {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM), hasRaised, func(r *sparkjob.Run) { r.MaxDriverMiB = 2000 })}, raised},
		"up to the ceiling":            {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM), func(r *sparkjob.Run) { r.MaxDriverMiB = 1708 })}, sparkjob.Change{FromLimitMiB: 1408, ToLimitMiB: 1707, FromHeapMiB: 1024, ToHeapMiB: 1296}},
		"evicted with more":            {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, k, driverDied(oom.EvictedMemory), hasRaised), carried(2, f)}, sparkjob.Change{}},
		"five need less, one runs":     {append(alike(5, hasRaised, took(300, 0)), carried(5, sparkjob.Running, hasRaised)), sparkjob.Change{}},
		"the user changed it since":    {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, f, func(r *sparkjob.Run) { r.Settings.Driver.LimitMiB = 4096 })}, sparkjob.Change{}},
		"the rule is off since":        {[]sparkjob.Run{carried(0, k, driverDied(oom.HeapOOM)), carried(1, f, func(r *sparkjob.Run) { r.NextRun.Driver = "" })}, sparkjob.Change{}},
		"five good runs need less":     {alike(5, hasRaised, took(300, 0)), sparkjob.Change{}},
		"four":                         {alike(4, hasRaised, took(300, 0)), raised},
		"five need more":               {alike(5, hasRaised, took(600, 0)), raised},
		"their processes take more":    {alike(5, hasRaised, took(300, 1300)), raised},
		"five need less, one did not":  {append([]sparkjob.Run{carried(9, s, hasRaised, took(900, 0))}, alike(5, hasRaised, took(300, 0))...), raised},
		"they were not measured":       {alike(5, hasRaised), raised},
		"one was measured too shortly": {alike(5, hasRaised, took(300, 0), func(r *sparkjob.Run) { m := at(0); r.Measured = &m }), raised},
	} {
		t.Run(name, func(t *testing.T) {
			got := status(c.runs...).NextRun.Driver
			if got.Change != c.want || (got.Mode == annotations.Enabled) != (c.want != sparkjob.Change{}) {
				t.Errorf("%+v", got)
			}
			if m := got.Memory(); (m != nil) != (c.want != sparkjob.Change{}) || m != nil && annotations.ReadNextRunMemory(m.String()) == nil {
				t.Errorf("the webhook reads %v", m)
			}
		})
	}
}

func TestNextRunOfExecutors(t *testing.T) {
	const s, f = sparkjob.Succeeded, sparkjob.Failed
	noneSeen := func(r *sparkjob.Run) { r.NextRun.Executor, r.Executors = "", 0 }
	for name, c := range map[string]struct {
		runs []sparkjob.Run
		want sparkjob.Change
	}{
		"a run had fewer cores":        {[]sparkjob.Run{carried(0, s, hasFewer)}, fewer},
		"it failed":                    {[]sparkjob.Run{carried(0, f, hasFewer)}, fewer},
		"it failed before":             {[]sparkjob.Run{carried(0, f, func(r *sparkjob.Run) { r.Needed = fewer })}, fewer},
		"somebody stopped it":          {[]sparkjob.Run{carried(0, s, hasFewer), carried(1, sparkjob.Stopped, hasFewer, fromStart)}, sparkjob.Change{}},
		"another heap since":           {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, s, hasFewer, func(r *sparkjob.Run) { r.Settings.Executor.HeapMiB, r.Settings.Executor.LimitMiB = 8192, 9012 }), carried(2, f)}, sparkjob.Change{}},
		"it is well without it":        {[]sparkjob.Run{carried(0, s, func(r *sparkjob.Run) { r.Needed = fewer })}, sparkjob.Change{}},
		"one with it failed":           {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, f, hasFewer, fromStart), carried(2, s, hasFewer)}, sparkjob.Change{}},
		"its memory was withdrawn":     {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, f, hasFewer, withdrawn)}, fewer},
		"withdrawn, and no cores":      {[]sparkjob.Run{carried(0, f, hasMore), carried(1, f, withdrawn, func(r *sparkjob.Run) { r.Settings.Executor.Cores = 1 })}, sparkjob.Change{}},
		"more memory":                  {[]sparkjob.Run{carried(0, f, hasMore)}, sparkjob.Change{FromCores: 1, ToCores: 1, FromLimitMiB: 1408, ToLimitMiB: 2112, FromHeapMiB: 1024, ToHeapMiB: 1024, Executors: 2}},
		"it died of memory too":        {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, f, hasFewer, fromStart, executorDied)}, fewer},
		"after it, five good ones":     {append([]sparkjob.Run{carried(-1, f, hasFewer, executorDied)}, alike(5, hasFewer, fromStart, took(70, 250))...), sparkjob.Change{}},
		"it runs":                      {[]sparkjob.Run{carried(0, sparkjob.Running, hasFewer)}, fewer},
		"one without executors":        {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, f, noneSeen)}, fewer},
		"one without is well":          {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, s)}, sparkjob.Change{}},
		"the user changed it":          {[]sparkjob.Run{carried(0, f, hasFewer), carried(1, f, func(r *sparkjob.Run) { r.Settings.Executor.Cores = 2 })}, sparkjob.Change{}},
		"four tasks would fit":         {alike(5, hasFewer, took(70, 250)), sparkjob.Change{}},
		"four tasks would not":         {alike(5, hasFewer, took(200, 250)), fewer},
		"nor would all processes":      {alike(5, hasFewer, took(70, 400)), fewer},
		"processes were not measured":  {alike(5, hasFewer, took(70, 0)), fewer},
		"one died of memory with them": {alike(5, hasFewer, took(70, 250), func(r *sparkjob.Run) { r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.OOMKilled, Count: 1}} }), fewer},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status(c.runs...).NextRun.Executor; got.Change != c.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The job says what the next run starts with, and the plan for its executors is valid.
func TestNextRunIsTold(t *testing.T) {
	st := status(carried(0, sparkjob.Killed, driverDied(oom.HeapOOM), hasFewer))
	for _, want := range []string{
		"In the next run the driver is to start with a heap of 1536 MiB instead of 1024 and a memory limit of 1971 MiB instead of 1408, because run driver-0 needed it.",
		"In the next run executors are to start with spark.executor.cores=1 instead of 4, because run driver-0 needed it.",
	} {
		if !strings.Contains(st.Advice, want) {
			t.Errorf("%q is not in %q", want, st.Advice)
		}
	}
	plan, ok := st.NextRun.Executor.Plan("spark-2", noon.Add(time.Hour))
	if valid := annotations.ReadRemedy(annotations.RemedyText([]annotations.RemedyPlan{plan})); !ok || len(valid) != 1 || valid[0].ToCores != 1 || valid[0].Run != "driver-0" {
		t.Errorf("%+v", plan)
	}
	audit := status(carried(0, sparkjob.Killed, driverDied(oom.HeapOOM), func(r *sparkjob.Run) { r.NextRun.Driver = annotations.Audit }))
	if !strings.Contains(audit.Advice, "If nextRun were enabled, the driver of the next run would start with") {
		t.Error(audit.Advice)
	}
}

// The job names the run that died, and not the last one with the change.
func TestNextRunNamesTheRun(t *testing.T) {
	next := status(carried(0, sparkjob.Killed, driverDied(oom.HeapOOM)), carried(1, sparkjob.Succeeded, hasRaised), carried(2, sparkjob.Succeeded, hasRaised)).NextRun
	if next.Driver.Run != "driver-0" {
		t.Error(next.Driver)
	}
	next = status(carried(0, sparkjob.Failed, hasFewer, executorDied), carried(1, sparkjob.Succeeded, hasFewer, fromStart)).NextRun
	if next.Executor.Run != "driver-0" {
		t.Error(next.Executor)
	}
}
