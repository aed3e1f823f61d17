package sparkjob_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// status of runs, the oldest first.
func status(runs ...sparkjob.Run) (s sparkjob.Status) {
	for _, r := range runs {
		s.Add(r, 20)
	}
	return s
}

func TestTurn(t *testing.T) {
	for _, test := range []struct {
		why       string
		states    string // S, K, F, R, T (stopped), U; the oldest first
		good, bad int    // index, or -1
	}{
		{"nothing is known", "", -1, -1},
		{"all is well", "SSS", -1, -1},
		{"it is well again", "SKS", -1, -1},
		{"the last one failed", "SSK", 1, 2},
		{"the last ones failed", "SSKFK", 1, 2},
		{"one runs", "SKR", 0, 1},
		{"stopped ones do not count", "STKUT", 0, 2},
		{"none was ever good", "KF", -1, 0},
	} {
		t.Run(test.why, func(t *testing.T) {
			var runs []sparkjob.Run
			for i, c := range test.states {
				state := map[rune]sparkjob.State{'S': sparkjob.Succeeded, 'K': sparkjob.Killed, 'F': sparkjob.Failed, 'R': sparkjob.Running, 'T': sparkjob.Stopped, 'U': sparkjob.Unknown}[c]
				runs = append(runs, run(i, state))
			}
			good, bad := sparkjob.Turn(status(runs...).Runs)
			for _, one := range []struct {
				what string
				got  *sparkjob.Run
				want int
			}{{"good", good, test.good}, {"bad", bad, test.bad}} {
				switch {
				case one.want < 0 && one.got == nil:
				case one.want < 0 || one.got == nil || one.got.UID != runs[one.want].UID:
					t.Errorf("%s: %+v, want the run %d", one.what, one.got, one.want)
				}
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	before, after := run(0, sparkjob.Succeeded), run(1, sparkjob.Killed)
	before.Settings.Executor = sparkjob.Settings{LimitMiB: 9011, HeapMiB: 8192, Cores: 4}
	after.Settings.Executor = sparkjob.Settings{LimitMiB: 4505, HeapMiB: 4096, Cores: 4, OverheadMiB: 500}
	before.Peaks.Executor = sparkjob.Peaks{HeapMiB: 3000, PythonMiB: 100}
	after.Peaks.Executor = sparkjob.Peaks{HeapMiB: 4000, PythonMiB: 110}
	after.Version = "4.1.4"
	want := []sparkjob.Difference{
		{What: "the version of Spark", From: "3.5.9", To: "4.1.4"},
		{What: "spark.executor.memory", From: "8g", To: "4g"},
		{What: "the limit of executors", From: "9011 MiB", To: "4505 MiB"},
		{What: "the heap of executors (peak)", From: "3000 MiB", To: "4000 MiB"},
	}
	if diff := cmp.Diff(want, sparkjob.Differences(&before, &after)); diff != "" {
		t.Error(diff)
	}
	s := status(before, after)
	if want := "Since the last good run: the version of Spark 4.1.4, was 3.5.9; spark.executor.memory 4g, was 8g;"; !strings.Contains(s.Advice, want) {
		t.Error(s.Advice)
	}
}

// measured is a good run whose executors need little.
func measured(i int) sparkjob.Run {
	r := run(i, sparkjob.Succeeded)
	r.Measured = ptr(metav1.NewTime(r.Ended.Add(-time.Minute)))
	r.Settings.Executor = sparkjob.Settings{LimitMiB: 16384, HeapMiB: 12288, OverheadMiB: 4096, Cores: 4}
	r.Peaks.Executor = sparkjob.Peaks{HeapMiB: 2500, JVMMiB: 3200, PythonMiB: 1900, OtherMiB: 100}.WithSums()
	return r
}

func several(n int, tweak func(i int, r *sparkjob.Run)) (runs []sparkjob.Run) {
	for i := range n {
		r := measured(i)
		if tweak != nil {
			tweak(i, &r)
		}
		runs = append(runs, r)
	}
	return runs
}

func TestGivesBack(t *testing.T) {
	last := func(tweak func(*sparkjob.Run)) func(int, *sparkjob.Run) {
		return func(i int, r *sparkjob.Run) {
			if i == 4 {
				tweak(r)
			}
		}
	}
	each := func(tweak func(*sparkjob.Run)) func(int, *sparkjob.Run) {
		return func(_ int, r *sparkjob.Run) { tweak(r) }
	}
	const all = "In 5 good runs, measured until 60 s before their end, the executor took at most 5200 of 16384 MiB. It could do with 8576: set spark.executor.memory=5g and spark.executor.memoryOverhead=3456m."
	for _, test := range []struct {
		why  string
		runs []sparkjob.Run
		want string
	}{
		{"each run is reckoned by itself: a full heap in one, much native memory in another", several(6, last(func(r *sparkjob.Run) {
			r.Peaks.Executor = sparkjob.Peaks{HeapMiB: 500, JVMMiB: 3100, PythonMiB: 1900}.WithSums()
		})), "In 6 good runs, measured until 60 s before their end, the executor took at most 5200 of 16384 MiB. It could do with 10752: set spark.executor.memory=5g and spark.executor.memoryOverhead=5632m."},
		{"five runs", several(5, nil), all},
		{"four are too few", several(4, nil), ""},
		{"one that failed does not count as good", several(5, last(func(r *sparkjob.Run) { r.State = sparkjob.Failed })), ""},
		{"one that was not measured does not count", several(5, last(func(r *sparkjob.Run) { r.Peaks = sparkjob.Containers[sparkjob.Peaks]{} })), ""},
		{"one whose last tenth was not measured does not count", several(5, last(func(r *sparkjob.Run) {
			r.Ended, r.Measured = ptr(at(60*4+12)), ptr(at(60*4+10))
		})), ""},
		{"nor one whose last three minutes were not", several(5, last(func(r *sparkjob.Run) { r.Ended, r.Measured = ptr(at(60*4+50)), ptr(at(60*4+47)) })), ""},
		{"the JVM limits direct memory to the size of the heap", several(5, each(func(r *sparkjob.Run) {
			r.Peaks.Executor.DirectMiB = 3000
		})), "In 5 good runs, measured until 60 s before their end, the executor took at most 5200 of 16384 MiB. It could do with 9600: set spark.executor.memory=6g and spark.executor.memoryOverhead=3456m."},
		{"of a small heap much is reserved", several(5, each(func(r *sparkjob.Run) {
			r.Peaks.Executor = sparkjob.Peaks{HeapMiB: 500}
		})), "In 5 good runs, measured until 60 s before their end, the executor took at most 500 of 12288 MiB of heap. It could do with 1280: set spark.executor.memory=1280m."},
		{"one died of memory", several(6, last(func(r *sparkjob.Run) {
			r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.OOMKilled, Count: 1}}
		})), ""},
		{"one died of something else", several(5, last(func(r *sparkjob.Run) {
			r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.EvictedStorage, Count: 1}}
		})), all},
		{"one had a remedy", several(6, last(func(r *sparkjob.Run) { r.Remedy.Executor = sparkjob.Change{FromCores: 4, ToCores: 2} })), ""},
		{"it has other settings now", several(5, last(func(r *sparkjob.Run) { r.Settings.Executor.HeapMiB = 10240 })), ""},
		{"local files are in memory", several(5, each(func(r *sparkjob.Run) { r.Settings.Executor.LocalDirsInMemory = true })), ""},
		{"the highest peak counts, also of a bad run", several(6, last(func(r *sparkjob.Run) {
			r.State, r.Peaks.Executor = sparkjob.Failed, sparkjob.Peaks{HeapMiB: 9000, JVMMiB: 11800}.WithSums()
		})), ""},
		{"only heaps were measured, and no overhead was set", several(5, each(func(r *sparkjob.Run) {
			r.Settings.Executor.OverheadMiB, r.Peaks.Executor = 0, sparkjob.Peaks{HeapMiB: 2500}
		})), "In 5 good runs, measured until 60 s before their end, the executor took at most 2500 of 12288 MiB of heap. It could do with 5120: set spark.executor.memory=5g and spark.executor.memoryOverhead=4g."},
	} {
		t.Run(test.why, func(t *testing.T) {
			var got []string
			for _, s := range sparkjob.GivesBack(status(test.runs...).Runs) {
				got = append(got, s.String())
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("%s\nwant %s", text, test.want)
			}
		})
	}
}

// What could be given back never leaves less than was measured, with a margin.
func TestGivesBackNeverTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mib := func(name string, least, most int64) int64 { return rapid.Int64Range(least, most).Draw(t, name) }
		now := sparkjob.Settings{HeapMiB: mib("heap", 512, 32768), OffHeapMiB: mib("off-heap", 0, 2048)}
		overhead := mib("overhead", 384, 16384)
		if rapid.Bool().Draw(t, "set") {
			now.OverheadMiB = overhead
		}
		now.LimitMiB = now.HeapMiB + overhead + now.OffHeapMiB
		var runs []sparkjob.Run
		var heap, total, outside int64
		processes := rapid.Bool().Draw(t, "processes")
		for i := range rapid.IntRange(1, 9).Draw(t, "runs") {
			r := measured(i)
			r.Settings.Executor = now
			p := sparkjob.Peaks{HeapMiB: mib("heap's peak", 1, now.HeapMiB)}
			if processes {
				p.JVMMiB, p.PythonMiB = p.HeapMiB+mib("native", 1, 2048), mib("Python", 0, 2048)
			}
			r.Peaks.Executor = p.WithSums()
			heap, total, outside = max(heap, p.HeapMiB), max(total, r.Peaks.Executor.AllMiB), max(outside, r.Peaks.Executor.OutsideMiB)
			runs = append(runs, r)
		}
		for _, s := range sparkjob.GivesBack(status(runs...).Runs) {
			if s.Runs < sparkjob.Handful || s.ToMiB >= s.FromMiB {
				t.Errorf("%+v", s)
			}
			if processes && 4*s.ToMiB < 5*total {
				t.Errorf("%+v: all took %d", s, total)
			}
			next := now.HeapMiB
			for _, c := range s.Changes {
				if c.Setting == "spark.executor.memory" {
					next = sizeOf(t, c.Next)
				}
			}
			if beside := s.ToMiB - next; processes && 4*beside < 5*outside {
				t.Errorf("%+v: %d beside the heap took %d", s, beside, outside)
			}
			if (next < 2*heap || 6*(next-300) < 10*heap) && next != now.HeapMiB {
				t.Errorf("%+v: the heap held %d", s, heap)
			}
		}
	})
}

// sizeOf reads a size of Spark's in MiB.
func sizeOf(t *rapid.T, text string) (mib int64) {
	unit := int64(1)
	if number, ok := strings.CutSuffix(text, "g"); ok {
		text, unit = number, 1024
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "m"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * unit
}
