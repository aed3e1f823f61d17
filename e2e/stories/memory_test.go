package stories

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
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
	// held is what its processes held, with what an idle Python worker and its daemon
	// take. It is 0 where it is not known. An application of class Hold says it in its log.
	held oom.Peaks
	// named is what the message says of what took most.
	named string
	// unmeasured: the oldest version of Spark does not measure processes, because the
	// application does not ask for it.
	unmeasured bool
}

func (m measured) inCI() measured { m.ci = newest; return m }

// roomy gives a container of 1,664 MiB, of which 512 are heap, and one executor that
// sends its measurements often.
func roomy(more ...string) map[string]string {
	return once(append(more, "spark.executor.memoryOverhead", "1152m", "spark.executor.cores", "2", "spark.executor.heartbeatInterval", "5s")...)
}

// python returns a story of Python workers and of a program that one of them starts.
func python(name, why string, own, other string, held oom.Peaks, named string) measured {
	return measured{
		death: dying(name, why, spark.Executor, oom.OOMKilled, app{
			file: "memory.py", args: []string{"held", own, other, "25"}, conf: roomy("spark.executor.processTreeMetrics.enabled", "true"),
		}).on(lab.Versions...),
		held: held, named: named,
	}
}

// jvm returns a story of a JVM, whose processes are measured where the webhook sets it.
func jvm(name, why, what, mib, named string) measured {
	return measured{
		death: dying(name, why, spark.Executor, oom.OOMKilled, app{
			class: "e2e.Hold", args: []string{what, mib, "12"}, conf: roomy(
				"spark.executor.extraClassPath", "/opt/classes",
				"spark.executor.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:MaxDirectMemorySize=2g"),
		}).on(lab.Versions...),
		named: named, unmeasured: true,
	}
}

// with returns it with more configuration.
func (m measured) with(pairs ...string) measured { maps.Copy(m.app.conf, conf(pairs...)); return m }

var measuredStories = []measured{
	python("measured-python", "two Python workers hold 300 MiB each and then grow; the whole container is killed", "300", "0", oom.Peaks{PythonMiB: 700}, "its Python workers took most").inCI(),
	python("measured-child", "a program that a Python worker started holds 800 MiB", "60", "800", oom.Peaks{PythonMiB: 250, OtherMiB: 800}, "other processes of the container took most"),
	jvm("measured-heap", "the heap holds 300 of 512 MiB, and native memory 600", "heap", "300", "native memory of its JVM took most"),
	jvm("measured-direct", "direct buffers hold 850 MiB", "direct", "850", "its direct buffers took most"),
	jvm("measured-metaspace", "classes fill 800 MiB of metaspace", "metaspace", "800", "its metaspace and compiled code took most"),
	// Its container has the size of the others.
	jvm("measured-offheap", "Spark executes in 850 of 900 MiB of spark.memory.offHeap.size", "offHeap", "850", "Spark's off-heap memory took most").
		with("spark.memory.offHeap.enabled", "true", "spark.memory.offHeap.size", "900m", "spark.executor.memoryOverhead", "252m"),
	{death: dying("measured-never", "a Python worker grows before the first heartbeat", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"workers", "4000"}, conf: once("spark.executor.heartbeatInterval", "60s")}), named: "It sent no heartbeat"},
}

func TestMeasured(t *testing.T) {
	for _, m := range measuredStories {
		m.host = true
		m.run(t, func(t *testing.T, version string) {
			killWhole(t)
			r := submit(t, m.name, version, m.app, true)
			record := r.untilRecorded(t, m.death)
			r.check(t, m.death, record, m.check(t, r, record))
		})
	}
}

var (
	saysHeld = regexp.MustCompile(`(?m)^HELD (.*)$`)
	saysMost = regexp.MustCompile(`[^.,]* took most \([^)]*\)`)
)

// check compares what was measured with what was held, and returns both.
func (m measured) check(t *testing.T, r *run, record oom.Record) (seen string) {
	t.Helper()
	held := m.held
	if m.app.class != "" {
		said := saysHeld.FindStringSubmatch(r.log(t))
		if said == nil {
			t.Fatal("the application does not say what it holds")
		}
		if err := json.Unmarshal([]byte(said[1]), &held); err != nil {
			t.Fatal(err)
		}
	}
	var figures []string
	for i := range record.Details {
		d := &record.Details[i]
		if d.Cause != m.cause {
			continue
		}
		if d.Settings == nil || d.Peaks == nil {
			t.Errorf("the driver said settings %+v and peaks %+v", d.Settings, d.Peaks)
			continue
		}
		t.Logf("%+v %+v", *d.Settings, *d.Peaks)
		p := *d.Peaks
		if m.unmeasured && r.Version == oldest {
			if held.JVMMiB = 0; p.JVMMiB != 0 {
				t.Errorf("processes were measured: %+v", p)
			}
		}
		for _, part := range []struct {
			name       string
			held, said int64
			// It grows at last, within a second. A heartbeat in that second shows more than
			// was held, and never more than the container may have.
			grows bool
		}{
			{"heap", held.HeapMiB, p.HeapMiB, false},
			{"metaspace", held.MetaspaceMiB, p.MetaspaceMiB, false},
			{"direct buffers", held.DirectMiB, p.DirectMiB, false},
			{"Spark's off-heap memory", held.OffHeapMiB, p.OffHeapMiB, false},
			{"JVM", held.JVMMiB, p.JVMMiB, true},
			{"Python", held.PythonMiB, p.PythonMiB, true},
			{"other processes", held.OtherMiB, p.OtherMiB, false},
		} {
			if part.held == 0 {
				continue
			}
			most := part.held * 115 / 100
			if part.grows {
				most = d.LimitMiB
			}
			if part.said*100 < part.held*85 || part.said > most {
				t.Errorf("%s: %d MiB were measured, %d held", part.name, part.said, part.held)
			}
			figures = append(figures, fmt.Sprintf("%s %d of %d MiB", part.name, part.said, part.held))
		}
	}
	message := r.driverPod(t).Annotations[annotations.Message]
	most := strings.TrimSpace(saysMost.FindString(message))
	if named := strings.Contains(message, m.named) || m.mayBeUnknown(r.Version) && most == ""; !named {
		t.Errorf("the message does not say %q: %s", m.named, message)
	}
	return listed(most, strings.Join(figures, ", "))
}

// mayBeUnknown reports whether Spark measured nothing of what took most.
func (m measured) mayBeUnknown(version string) bool {
	return m.unmeasured && version == oldest && strings.HasPrefix(m.named, "native")
}
