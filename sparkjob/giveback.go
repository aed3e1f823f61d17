package sparkjob

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// Handful is how many good runs at least must have been measured.
	Handful = 5
	// Sizes are in MiB. Spark refuses a heap of less than 450, and takes an overhead of 384
	// at least if none is set.
	leastHeap, leastOverhead = 512, 384
	heapStep, overheadStep   = 256, 128
	// worthwhile is a percentage of a limit. Less is not worth a change.
	worthwhile = 20
)

// Spare is memory that a job could give back.
type Spare struct {
	Role spark.Role `json:"role"`
	// Runs is how many good runs were measured, and PeakMiB the most that was measured in
	// any run, of FromMiB. If only the heap was measured, it is of the heap.
	Runs int `json:"runs"`
	// UnmeasuredSeconds is how long the end of one of them was at most that was not measured.
	UnmeasuredSeconds int64 `json:"unmeasuredSeconds"`

	PeakMiB int64 `json:"peakMiB"`
	FromMiB int64 `json:"fromMiB"`
	ToMiB   int64 `json:"toMiB"`
	// Changes are to be made together.
	Changes []oom.Change `json:"changes"`

	heapOnly bool
}

func (s Spare) String() string {
	var all []string
	for _, c := range s.Changes {
		all = append(all, c.Setting+"="+c.Next)
	}
	of := ""
	if s.heapOnly {
		of = " of heap"
	}
	return fmt.Sprintf("In %d good runs, measured until %d s before their end, the %s took at most %d of %d MiB%s. It could do with %d: set %s.", s.Runs, s.UnmeasuredSeconds, s.Role, s.PeakMiB, s.FromMiB, of, s.ToMiB, strings.Join(all, " and "))
}

// GivesBack returns what a job could do without, by runs with the newest first. It never
// goes below what was measured in any run, with a margin: as much again for a heap, see
// [enoughHeap], and a quarter for all processes together.
func GivesBack(runs []Run) (all []Spare) {
	for _, role := range []spark.Role{spark.Driver, spark.Executor} {
		if s, ok := spareOf(runs, role); ok {
			all = append(all, s)
		}
	}
	return all
}

func of[T any](c Containers[T], role spark.Role) T {
	if role == spark.Driver {
		return c.Driver
	}
	return c.Executor
}

// spareOf returns what containers of a role could do without. ok is false if
//   - fewer than [Handful] good runs with the present settings were measured until shortly
//     before their end;
//   - one died of a lack of memory, or may have, or has a remedy;
//   - local files are in memory;
//   - it is not worth it.
func spareOf(runs []Run, role spark.Role) (s Spare, ok bool) {
	now := presentSettings(runs, role)
	var peaks Peaks
	good, processes, unmeasured := 0, true, time.Duration(0)
	for i := range runs {
		r := &runs[i]
		p := of(r.Peaks, role)
		if r.diedOfMemory(role) || of(r.Remedy, role) != (Change{}) {
			return s, false
		}
		peaks = peaks.Max(p)
		if rest, ok := r.unmeasured(); ok && r.State == Succeeded && p.HeapMiB > 0 && of(r.Settings, role).sizes() == now.sizes() {
			good++
			unmeasured = max(unmeasured, rest)
			processes = processes && p.JVMMiB > 0
		}
	}
	if good < Handful || now.LocalDirsInMemory {
		return s, false
	}
	overhead := now.LimitMiB - now.HeapMiB - now.OffHeapMiB - now.PySparkMiB
	if overhead <= 0 {
		return s, false
	}
	heap := min(enoughHeap(&peaks), now.HeapMiB)
	s = Spare{Role: role, Runs: good, UnmeasuredSeconds: int64(unmeasured.Seconds()), PeakMiB: peaks.HeapMiB, FromMiB: now.HeapMiB, ToMiB: heap, heapOnly: !processes}
	next := overhead
	if processes {
		next = enoughOverhead(&peaks, heap, now) // it may be more, next to a smaller heap
		s.PeakMiB, s.FromMiB, s.ToMiB = peaks.AllMiB, now.LimitMiB, now.LimitMiB-(now.HeapMiB-heap)-(overhead-next)
	}
	if 100*(s.FromMiB-s.ToMiB) < worthwhile*s.FromMiB || processes && s.ToMiB*4 < peaks.AllMiB*5 {
		return s, false
	}
	s.Changes = changes(role, now, heap, overhead, next)
	return s, true
}

// maxUnmeasured is how long the end of a run may be at most that was not measured. It may
// not be more than a tenth of the run either.
const maxUnmeasured = 2 * time.Minute

// unmeasured returns how long the end of a run is that was not measured. ok is false if it
// is too long: the run may have taken more in it.
func (r *Run) unmeasured() (rest time.Duration, ok bool) {
	if r.Ended == nil || r.Measured == nil {
		return 0, false
	}
	rest = max(r.Ended.Sub(r.Measured.Time), 0)
	return rest, rest <= maxUnmeasured && 10*rest <= r.Ended.Sub(r.Began.Time)
}

// reserved is what Spark leaves of a heap, in MiB (UnifiedMemoryManager.scala). Of the
// rest, blocks and execution take 60 percent (spark.memory.fraction).
const reserved = 300

// enoughHeap returns a heap that is enough for peaks: twice the highest heap, because the
// peak is as old as its measurement; all of it as blocks and execution; and twice the
// buffers outside of it, which the JVM limits to the size of its heap.
func enoughHeap(p *Peaks) int64 {
	unified := (p.HeapMiB*5+2)/3 + reserved
	return roundUp(max(2*p.HeapMiB, unified, 2*p.DirectMiB, leastHeap), heapStep)
}

// presentSettings returns the settings of the newest run of which they are known.
func presentSettings(runs []Run, role spark.Role) Settings {
	for i := range runs {
		if s := of(runs[i].Settings, role); s.HeapMiB > 0 && s.LimitMiB > 0 {
			return s
		}
	}
	return Settings{}
}

// sizes returns what runs must have in common to be compared.
func (s Settings) sizes() [4]int64 {
	return [4]int64{s.LimitMiB, s.HeapMiB, s.OffHeapMiB, s.PySparkMiB}
}

// enoughOverhead returns a memoryOverhead that is enough for what was measured outside of
// a heap, which may become smaller.
func enoughOverhead(p *Peaks, heap int64, now Settings) int64 {
	outside := max(p.OutsideMiB, p.AllMiB-heap)
	return roundUp(max(outside+(outside+3)/4-now.OffHeapMiB-now.PySparkMiB, leastOverhead), overheadStep)
}

// changes returns the settings to change. A smaller heap makes Spark compute a smaller
// overhead if none is set, so it is set.
func changes(role spark.Role, now Settings, heap, overhead, next int64) (all []oom.Change) {
	name := "spark." + string(role) + "."
	if heap != now.HeapMiB {
		all = append(all, oom.Change{Setting: name + "memory", Now: memory(now.HeapMiB), Next: memory(heap)})
	}
	if next != overhead || now.OverheadMiB == 0 {
		all = append(all, oom.Change{Setting: name + "memoryOverhead", Now: memory(overhead), Next: memory(next)})
	}
	return all
}

// ofMemory are the causes that show, or may show, that memory was too small.
var ofMemory = []oom.Cause{oom.OOMKilled, oom.ChildOOMKilled, oom.HeapOOM, oom.JavaOOM, oom.Killed, oom.Hung, oom.EvictedMemory}

// diedOfMemory reports whether a container of a role died of a lack of memory, or may
// have.
func (r *Run) diedOfMemory(role spark.Role) bool {
	return slices.ContainsFunc(r.Deaths, func(d oom.Deaths) bool {
		return d.Role == role && d.Container == "" && slices.Contains(ofMemory, d.Cause)
	})
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
