package sparkjob

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// nextOf returns what containers of a role are to start with in the next run, by runs with
// the newest first. The newest run that says something decides:
//   - a driver that died of memory: more memory than it had
//   - a run with a change, or one that failed before it could get one: that change, unless
//     good runs show that it is not needed
//   - a good run without a change: nothing
//
// It is empty if the rules do not allow it, or if the user has changed the settings since.
// Executors get nothing as long as a run is known that had a change from its start and did
// not end well because of something else: with fewer cores it may have waited for slots. A
// driver gets nothing as long as one is known that was evicted with more memory.
func nextOf(runs []Run, role spark.Role) (none Next) {
	mode, now := carries(runs, role), presentSettings(runs, role)
	harmful := hasFailedWithIt
	if role == spark.Driver {
		harmful = wasEvictedWithIt
	}
	if mode == "" || slices.ContainsFunc(runs, harmful) {
		return none
	}
	withdrawn := false
	for i := range runs {
		r := &runs[i]
		change, name := of(r.Remedy, role), origin(runs[i:], role)
		withdrawn = withdrawn || change.Withdrawn
		if role == spark.Executor && r.State.IsBad() && r.Needed != (Change{}) {
			change, name = r.Needed, r.Driver
		}
		if change.gives() == (Change{}) {
			change = Change{}
		}
		if withdrawn {
			change = change.withoutMemory()
		}
		switch {
		case role == spark.Driver && r.diedForSure():
			change, name = r.raised(), r.Driver
		case change == Change{} && r.State == Succeeded:
			return none
		case change == Change{}:
			continue // such as a run that failed of something else
		case isUnneeded(runs[i:], role):
			return none
		}
		if change == (Change{}) || !change.fits(now) || !of(r.Settings, role).fits(now) {
			return none
		}
		change.FromStart, change.Withdrawn = false, false
		return Next{Mode: mode, Change: change, Run: name}
	}
	return none
}

// hasFailedWithIt reports whether executors had a change from the start of a run that did
// not end well, and nothing of it died of memory. Perhaps somebody stopped it because it
// waited.
func hasFailedWithIt(r Run) bool {
	well := r.State == Running || r.State == Succeeded
	return r.Remedy.Executor.FromStart && !well && !r.diedOfMemory(spark.Executor) && !r.diedOfMemory(spark.Driver)
}

// wasEvictedWithIt reports whether a driver with more memory was evicted for lack of memory.
func wasEvictedWithIt(r Run) bool {
	return r.Remedy.Driver != Change{} && r.driverDied(oom.EvictedMemory)
}

// origin returns the name of the run because of which the newest of some runs has a
// change: the oldest in a row that has it, or for a driver the one before.
func origin(runs []Run, role spark.Role) (name string) {
	change := of(runs[0].Remedy, role).gives()
	change.FromStart = false
	for i := range runs {
		had := of(runs[i].Remedy, role).gives()
		if had.FromStart = false; had != change {
			if role == spark.Driver && runs[i].diedForSure() {
				name = runs[i].Driver
			}
			break
		}
		name = runs[i].Driver
	}
	return name
}

// carries returns whether the rules let the next run start with what earlier ones needed,
// by the newest run with pods of that role.
func carries(runs []Run, role spark.Role) annotations.Mode {
	for i := range runs {
		if role == spark.Driver || runs[i].Executors > 0 {
			return of(runs[i].NextRun, role)
		}
	}
	return ""
}

// fits reports whether a run had the present settings, as far as they are known.
func (s Settings) fits(now Settings) bool {
	return Change{FromCores: s.Cores, FromLimitMiB: s.LimitMiB, FromHeapMiB: s.HeapMiB}.fits(now)
}

// fits reports whether a change starts from the present settings, as far as they are
// known.
func (c Change) fits(now Settings) bool {
	same := func(from, now int64) bool { return from == 0 || now == 0 || from == now }
	return same(c.FromCores, now.Cores) && same(c.FromLimitMiB, now.LimitMiB) && same(c.FromHeapMiB, now.HeapMiB)
}

// forSure are causes that show that the memory of a container was too small.
var forSure = []oom.Cause{oom.OOMKilled, oom.ChildOOMKilled, oom.HeapOOM}

// diedForSure reports whether the driver died of memory, and not because local files fill
// it.
func (r *Run) diedForSure() bool {
	return r.driverDied(forSure...) && (r.driverDied(oom.HeapOOM) || !r.Settings.Driver.LocalDirsInMemory)
}

func (r *Run) driverDied(of ...oom.Cause) bool {
	return slices.ContainsFunc(r.Deaths, func(d oom.Deaths) bool {
		return d.Role == spark.Driver && d.Container == "" && slices.Contains(of, d.Cause)
	})
}

// raised returns the memory of a driver that is one step above what it died with, or
// nothing if that is not known.
func (r *Run) raised() Change {
	m := annotations.RemedyMemory{FromLimitMiB: r.Settings.Driver.LimitMiB, FromHeapMiB: r.Settings.Driver.HeapMiB}
	m.ToLimitMiB, m.ToHeapMiB = m.FromLimitMiB, m.FromHeapMiB
	if given := r.Remedy.Driver; given.ToLimitMiB > 0 {
		m = given.memory()
	}
	if m.FromHeapMiB == 0 || m.FromLimitMiB <= m.FromHeapMiB {
		return Change{}
	}
	next := remedy.Raise(m, r.driverDied(oom.HeapOOM), cmp.Or(r.MaxDriverMiB, annotations.MaxRemedyMiB))
	if next.ToLimitMiB-m.ToLimitMiB < remedy.LeastMore {
		return r.Remedy.Driver // there is no more
	}
	return Change{}.withMemory(&next)
}

func (c Change) memory() annotations.RemedyMemory {
	return annotations.RemedyMemory{FromLimitMiB: c.FromLimitMiB, ToLimitMiB: c.ToLimitMiB, FromHeapMiB: c.FromHeapMiB, ToHeapMiB: c.ToHeapMiB}
}

// isUnneeded reports whether a handful of good runs with a change, the newest ones, took
// so little that what Spark asks for is enough: a heap with the margin of [enoughHeap],
// and all processes with a quarter. With fewer cores an executor ran fewer tasks, so its
// peaks count as often as it would run more. The processes must have been measured, unless
// the change was more heap.
func isUnneeded(runs []Run, role spark.Role) bool {
	change := of(runs[0].Remedy, role).gives()
	var peaks Peaks
	good, processes := 0, true
	for i := range runs {
		r := &runs[i]
		if r.State == Running {
			continue // it shows nothing yet
		}
		if of(r.Remedy, role).gives() != change {
			break
		}
		if r.diedOfMemory(role) {
			return false
		}
		p := of(r.Peaks, role)
		peaks = peaks.Max(p)
		if _, ok := r.unmeasured(); ok && r.State == Succeeded && p.HeapMiB > 0 {
			good++
			processes = processes && p.JVMMiB > 0
		}
	}
	now := presentSettings(runs, role)
	if good < Handful || now.HeapMiB == 0 || !processes && change.ToHeapMiB <= change.FromHeapMiB {
		return false
	}
	if change.ToCores > 0 && change.ToCores < change.FromCores {
		peaks = peaks.times(change.FromCores, change.ToCores)
	}
	return enoughHeap(&peaks) <= now.HeapMiB && (!processes || 5*peaks.AllMiB <= 4*now.LimitMiB)
}

// times returns peaks that are n/d as high.
func (p Peaks) times(n, d int64) Peaks {
	for _, at := range []*int64{&p.HeapMiB, &p.DirectMiB, &p.AllMiB} {
		*at = (*at*n + d - 1) / d
	}
	return p
}

// ExecutorHeapMiB returns the heap that Spark asks for executors, as far as it is known.
func (s *Status) ExecutorHeapMiB() int64 { return presentSettings(s.Runs, spark.Executor).HeapMiB }

// Memory returns the memory that a driver is to get, or nil.
func (n *Next) Memory() *annotations.RemedyMemory {
	if n.Change.ToLimitMiB == 0 {
		return nil
	}
	m := n.Change.memory()
	return &m
}

// Plan returns the plan with which the executors of a driver are to start, until a time.
// More memory is taken back if fewer executors start with it than ran then. ok is false if
// there is none.
func (n *Next) Plan(application string, until time.Time) (p annotations.RemedyPlan, ok bool) {
	c := n.Change
	p = annotations.RemedyPlan{Application: application, Profile: "0", Mode: n.Mode, FromCores: int(c.FromCores), ToCores: int(c.ToCores), Until: until, Run: n.Run}
	if c.ToLimitMiB > 0 {
		m := c.memory()
		m.Executors = int(max(c.Executors, 1))
		p.Memory = &m
	}
	return p, n.Mode != "" && p.Changes()
}

// Explain says in sentences what the next run starts with.
func Explain(next Containers[Next]) (all []string) {
	for _, text := range []string{next.Driver.about("the driver"), next.Executor.about("executors")} {
		if text != "" {
			all = append(all, text)
		}
	}
	return all
}

// about says in words what containers of the next run start with, or "".
func (n *Next) about(whom string) string {
	c := n.Change
	if n.Mode == "" {
		return ""
	}
	var all []string
	if c.ToCores < c.FromCores {
		all = append(all, fmt.Sprintf("spark.executor.cores=%d instead of %d", c.ToCores, c.FromCores))
	}
	if c.ToHeapMiB > c.FromHeapMiB {
		all = append(all, fmt.Sprintf("a heap of %d MiB instead of %d", c.ToHeapMiB, c.FromHeapMiB))
	}
	if c.ToLimitMiB > 0 {
		all = append(all, fmt.Sprintf("a memory limit of %d MiB instead of %d", c.ToLimitMiB, c.FromLimitMiB))
	}
	does := "In the next run " + whom + " are to start with "
	if whom == "the driver" {
		does = "In the next run the driver is to start with "
	}
	if n.Mode == annotations.Audit {
		does = "If nextRun were enabled, " + whom + " of the next run would start with "
	}
	return does + strings.Join(all, " and ") + fmt.Sprintf(", because run %s needed it.", n.Run)
}
