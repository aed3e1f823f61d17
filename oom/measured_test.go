package oom_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var died = metav1.NewTime(time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC))

// executorWith returns an executor with a heap of 4096 MiB and a limit of 5734 MiB that
// ran for so long.
func executorWith(cause oom.Cause, ran time.Duration) oom.Termination {
	code := int32(137)
	if cause == oom.HeapOOM {
		code = 52
	}
	t := oom.Termination{
		Set: "executors", Number: 7, Role: spark.Executor, Pod: "pi-exec-7", Cause: cause, ExitCode: &code, At: died,
		LimitMiB: 5734, HeapMiB: 4096, Cores: 4,
	}
	return t.Ran(ran)
}

// settings are in force with 4096 MiB of heap and a limit of 5734 MiB.
func settings(overhead, offHeap, pyspark int64, taskCPUs int) *spark.Settings {
	return &spark.Settings{
		Executor: spark.MemorySettings{Heap: 4096, Overhead: overhead, OffHeap: offHeap, PySpark: pyspark},
		TaskCPUs: taskCPUs, HeartbeatSeconds: 10,
	}
}

// What is said of an executor whose settings or measurements are known.
func TestMeasured(t *testing.T) {
	python := capturedPod(t, "spark-4.1.4/driver")
	var got strings.Builder
	for _, c := range []struct {
		name     string
		cause    oom.Cause
		ran      time.Duration
		settings *spark.Settings
		peaks    *oom.Peaks
		inMemory bool          // Spark's local files
		said     time.Duration // after the death; before it if negative
	}{
		{name: "settings, and the UI did not answer again", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1)},
		{name: "memoryOverhead by a factor", cause: oom.OOMKilled, ran: time.Hour, settings: settings(0, 0, 0, 1)},
		{name: "off-heap and Python have settings", cause: oom.OOMKilled, ran: time.Hour, settings: settings(614, 512, 512, 1)},
		{name: "another system raised the limit", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1000, 0, 0, 1)},
		{name: "tasks take two cores each", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 4)},
		{name: "the settings contradict the pod", cause: oom.OOMKilled, ran: time.Hour, settings: &spark.Settings{Executor: spark.MemorySettings{Heap: 1024, Overhead: 384}}},
		{name: "no heartbeat", cause: oom.OOMKilled, ran: 4 * time.Second, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{}},
		{name: "Python workers, and a heap that is nearly full", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3300, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 3700, PythonMiB: 1900}},
		{name: "Python workers, and a heap that is far from full", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 1700, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 2100, PythonMiB: 3500}},
		{name: "the same, but it ran for a short time", cause: oom.OOMKilled, ran: 30 * time.Second, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 1700, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 2100, PythonMiB: 3500}},
		{name: "direct buffers", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3300, MetaspaceMiB: 90, DirectMiB: 1800, JVMMiB: 5500}},
		{name: "native memory of the JVM", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 5600}},
		{name: "a child of the JVM", cause: oom.ChildOOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 3300, OtherMiB: 2300}},
		{name: "processes are not measured", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 300}},
		{name: "processes are not measured, and direct buffers took most", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 1400}},
		{name: "processes are not measured, and metaspace took most", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 1500, DirectMiB: 10}},
		{name: "another executor's heap was fuller", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 1000, MaxHeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 4400, PythonMiB: 1200}},
		{name: "a heap that was touched and is free again", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 2500, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 4250, PythonMiB: 1300}},
		{name: "local files in memory", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 1500, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 2000}, inMemory: true},
		{name: "far below the limit", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 1000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 1400, PythonMiB: 700}},
		{name: "said 25 s before", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 3300, PythonMiB: 2300}, said: -25 * time.Second},
		{name: "a heap that lies", cause: oom.OOMKilled, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 9000, JVMMiB: 9300}},
		{name: "a full heap", cause: oom.HeapOOM, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 4000, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 4500}},
		{name: "a heap that was far from full", cause: oom.HeapOOM, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 800, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 1500}},
		{name: "maybe memory", cause: oom.Killed, ran: time.Hour, settings: settings(1638, 0, 0, 1), peaks: &oom.Peaks{HeapMiB: 3300, MetaspaceMiB: 90, DirectMiB: 10, JVMMiB: 3700, PythonMiB: 1900}},
	} {
		d := executorWith(c.cause, c.ran)
		d.LocalDirsInMemory = c.inMemory
		d.SetSettings(c.settings, python.Language())
		if c.peaks != nil {
			d.SetPeaks(*c.peaks, c.settings, died.Add(c.said))
		}
		var record oom.Record
		record.Add(d)
		changes, err := json.Marshal(record.Changes(python))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s, %s\n%s\n%s\n\n", c.name, c.cause, record.Explain(&d, python), changes)
	}
	golden.Holds(t, filepath.Join("testdata", "measured.txt"), got.String())
}

// Whatever was measured, no value is below the one in force, unless the other one rises
// by as much; and a heap is never smaller than it was full.
func TestShiftKeepsThePod(t *testing.T) {
	driver := capturedPod(t, "spark-4.1.4/driver")
	size := func(t *rapid.T, text string) int64 {
		n, err := strconv.ParseInt(strings.TrimRight(text, "mg"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(text, "g") {
			n <<= 10
		}
		return n
	}
	shifted := false
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, 6000)
		d := executorWith(oom.OOMKilled, time.Duration(rapid.IntRange(0, 1500).Draw(t, "ran"))*time.Second)
		s := settings(amount.Draw(t, "overhead"), amount.Draw(t, "offHeap")/8, amount.Draw(t, "pyspark")/8, 1)
		if rapid.Bool().Draw(t, "fits") {
			s.Executor.Overhead = 5734 - 4096 - s.Executor.OffHeap - s.Executor.PySpark
		}
		p := oom.Peaks{HeapMiB: amount.Draw(t, "heap"), JVMMiB: amount.Draw(t, "jvm"), PythonMiB: amount.Draw(t, "python")}
		d.SetSettings(s, driver.Language())
		d.SetPeaks(p, s, died.Time)
		var record oom.Record
		record.Add(d)
		more, less := int64(0), int64(0)
		for _, c := range record.Changes(driver) {
			if c.Now == "" || c.Next == "" {
				continue
			}
			by := size(t, c.Next) - size(t, c.Now)
			if by < 0 {
				less -= by
				if !strings.HasSuffix(c.Setting, ".memory") || size(t, c.Next) < p.HeapMiB || size(t, c.Next) < 450 {
					t.Fatalf("%+v, and the heap held %d", c, p.HeapMiB)
				}
			} else {
				more += by
			}
		}
		if less > 0 {
			shifted = true
			if more < less {
				t.Fatalf("%d MiB more and %d less", more, less)
			}
		}
	})
	if !shifted {
		t.Error("no draw shifts memory")
	}
}
