package stories

import (
	"context"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// measured is a story of an executor that holds known amounts of memory, sends them to
// its driver and then grows over its limit. The whole container is killed, as with
// cgroup v2.
type measured struct {
	death
	// python and other are the MiB that its processes held, with what an idle Python
	// worker and its daemon take.
	python, other int64
	// named is what the message says of the process that took most.
	named string
}

// roomy gives a container of 1,664 MiB, of which 512 are heap, and one executor that
// sends its measurements often.
var roomy = once("spark.executor.memoryOverhead", "1152m", "spark.executor.cores", "2", "spark.executor.heartbeatInterval", "5s",
	"spark.executor.processTreeMetrics.enabled", "true")

var measuredStories = []measured{
	{death: dying("measured-python", "two Python workers hold 300 MiB each and then grow; the whole container is killed", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"held", "300", "0", "25"}, conf: roomy}).inCI(), python: 700, named: "its Python workers took most"},
	{death: dying("measured-child", "a program that a Python worker started holds 800 MiB", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"held", "60", "800", "25"}, conf: roomy}), python: 250, other: 800, named: "other processes of the container took most"},
	{death: dying("measured-never", "a Python worker grows before the first heartbeat", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"workers", "4000"}, conf: once("spark.executor.heartbeatInterval", "60s")}), named: "It sent no heartbeat"},
}

func TestMeasured(t *testing.T) {
	for _, m := range measuredStories {
		m.host = true
		m.run(t, func(t *testing.T, version string) {
			ctx, stop := context.WithCancel(t.Context())
			killer := make(chan struct{})
			go func() { lab.KillWholeContainers(ctx); close(killer) }()
			defer func() { stop(); <-killer }()
			r := submit(t, m.name, version, m.app, true)
			record := r.untilRecorded(t, m.death)
			m.check(t, r, record)
			r.check(t, m.death, record)
		})
	}
}

// check compares what was measured with what was held.
func (m measured) check(t *testing.T, r *run, record oom.Record) {
	t.Helper()
	for i := range record.Details {
		d := &record.Details[i]
		if d.Cause != m.cause {
			continue
		}
		if d.Settings == nil || d.Peaks == nil {
			t.Errorf("the driver said settings %+v and peaks %+v", d.Settings, d.Peaks)
			continue
		}
		// The workers then grow within a second. A heartbeat in that second shows more than
		// was held, and never more than the container may have.
		if got := d.Peaks.PythonMiB; got*100 < m.python*85 || got > d.LimitMiB {
			t.Errorf("Python: %d MiB were measured, %d held", got, m.python)
		} else if got*100 > m.python*115 && m.python > 0 {
			t.Logf("Python: %d MiB were measured while it grew, %d held", got, m.python)
		}
		if got := d.Peaks.OtherMiB; got*100 < m.other*85 || got*100 > m.other*115 {
			t.Errorf("other processes: %d MiB were measured, %d held", got, m.other)
		}
		t.Logf("%+v %+v", *d.Settings, *d.Peaks)
	}
	if message := r.driverPod(t).Annotations[annotations.Message]; !strings.Contains(message, m.named) {
		t.Errorf("the message does not say %q: %s", m.named, message)
	}
}
