package sparkjob

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// MostRuns is how many runs a job may keep.
	MostRuns = 100
	// DefaultRuns is how many it keeps if nobody says otherwise.
	DefaultRuns = 20
	// MaxBytes limits a status, so that ten thousand jobs fit into etcd.
	MaxBytes = 16 << 10
)

// Add adds what was seen of a run, and keeps the newest runs, at most so many. It returns
// whether the job changed. Adding something again, or in another order, does not change
// the result, as long as none of the runs is older than those that are kept.
func (s *Status) Add(seen Run, most int) (changed bool) {
	before := s.said()
	i := slices.IndexFunc(s.Runs, seen.is)
	s.Runs = slices.Clone(s.Runs)
	if i < 0 {
		s.Runs = append(s.Runs, seen)
	} else {
		s.Runs[i] = merge(s.Runs[i], seen)
	}
	s.bound(most)
	return s.said() != before
}

// said returns all that a status says, without the versions of pods: a pod that has
// another version and says the same is not news, nor is that a driver was asked again.
func (s *Status) said() string {
	without := *s
	without.Runs = slices.Clone(s.Runs)
	for i := range without.Runs {
		without.Runs[i] = without.Runs[i].news()
	}
	return without.json()
}

// news returns what of a run is worth a write.
func (r *Run) news() Run {
	without := *r
	without.ResourceVersion, without.Seen = "", metav1.Time{}
	if r.State == Running {
		without.Measured = nil
	}
	return without
}

// SaysSameAs reports whether two sightings of a run say the same.
func (r *Run) SaysSameAs(other *Run) bool {
	return reflect.DeepEqual(r.news(), other.news())
}

// Run returns what the job has of a run, or nil.
func (s *Status) Run(of *Run) *Run {
	if i := slices.IndexFunc(s.Runs, of.is); i >= 0 {
		return &s.Runs[i]
	}
	return nil
}

// is reports whether two are the same run.
func (r *Run) is(other Run) bool { return r.UID == other.UID && r.Application == other.Application }

// bound sorts the runs, drops the oldest, and works out what follows from the others.
func (s *Status) bound(most int) {
	slices.SortStableFunc(s.Runs, func(a, b Run) int {
		return cmp.Or(b.Began.Compare(a.Began.Time), cmp.Compare(b.UID, a.UID), cmp.Compare(b.Application, a.Application))
	})
	s.Runs = s.Runs[:min(len(s.Runs), most, MostRuns)]
	told := false
	for i := range s.Runs {
		r := &s.Runs[i]
		if told {
			r.Message = ""
		}
		told = told || r.Message != ""
	}
	for {
		s.summarize()
		if len(s.json()) <= MaxBytes || len(s.Runs) < 2 {
			return
		}
		s.Runs = s.Runs[:len(s.Runs)-1]
	}
}

func (s *Status) json() string {
	text, _ := json.Marshal(s) // plain data: it cannot fail
	return string(text)
}

// summarize works out what follows from the runs.
func (s *Status) summarize() {
	s.Known, s.Bad, s.Deaths = len(s.Runs), 0, 0
	for i := range s.Runs {
		if s.Runs[i].State.IsBad() {
			s.Bad++
		}
		for _, d := range s.Runs[i].Deaths {
			if d.Container == "" {
				s.Deaths += d.Count
			}
		}
	}
	s.LostExecutorHours = hours(lost(s.Runs))
	s.NextRun = Containers[Next]{nextOf(s.Runs, spark.Driver), nextOf(s.Runs, spark.Executor)}
	s.Advice = advise(s.Runs, s.NextRun)
}

// lost returns the executor seconds that runs lost.
func lost(runs []Run) (seconds int64) {
	for i := range runs {
		seconds += runs[i].LostExecutorSeconds
	}
	return seconds
}

func hours(seconds int64) string { return fmt.Sprintf("%.1f", float64(seconds)/3600) }

// merge returns what two sightings of one run say together. What the driver's pod says is
// from the later sighting. Of measurements the highest count, because one replica may have
// asked the driver when the other one did not.
func merge(a, b Run) Run {
	later := a
	if a.compare(&b) < 0 {
		later = b
	}
	later.Executors = max(a.Executors, b.Executors)
	later.LostExecutorSeconds = max(a.LostExecutorSeconds, b.LostExecutorSeconds)
	later.Settings = Containers[Settings]{a.Settings.Driver.max(b.Settings.Driver), a.Settings.Executor.max(b.Settings.Executor)}
	later.Peaks = Containers[Peaks]{a.Peaks.Driver.Max(b.Peaks.Driver), a.Peaks.Executor.Max(b.Peaks.Executor)}
	if a.Needed.compare(b.Needed) > 0 {
		later.Needed = a.Needed
	} else {
		later.Needed = b.Needed
	}
	later.NextRun.Executor = max(a.NextRun.Executor, b.NextRun.Executor)
	later.Measured = latest(a.Measured, b.Measured)
	later.Seen = *latest(&a.Seen, &b.Seen)
	return later
}

// compare orders changes: the larger one gives more memory, or fewer cores.
func (c Change) compare(d Change) int {
	return cmp.Or(cmp.Compare(c.ToLimitMiB, d.ToLimitMiB), cmp.Compare(c.ToHeapMiB, d.ToHeapMiB), cmp.Compare(c.FromCores-c.ToCores, d.FromCores-d.ToCores),
		cmp.Compare(c.FromCores, d.FromCores), cmp.Compare(c.FromLimitMiB, d.FromLimitMiB), cmp.Compare(c.FromHeapMiB, d.FromHeapMiB))
}

func latest(a, b *metav1.Time) *metav1.Time {
	if a == nil || b != nil && a.Before(b) {
		return b
	}
	return a
}

// compare returns a negative number if the other one was seen later. The API server's
// versions of a pod grow. Of two sightings of one version the one that knows more of the
// end is later: the pod is gone, or somebody saw how it ended before it was deleted.
func (r *Run) compare(other *Run) int {
	order, err := resourceversion.CompareResourceVersion(r.ResourceVersion, other.ResourceVersion)
	if err != nil { // not from an API server
		order = cmp.Compare(r.ResourceVersion, other.ResourceVersion)
	}
	states := []State{Running, Unknown, Stopped}
	known := func(s State) int { // a state that is not in the list knows most
		if i := slices.Index(states, s); i >= 0 {
			return i
		}
		return len(states)
	}
	return cmp.Or(order, cmp.Compare(known(r.State), known(other.State)), cmp.Compare(r.State, other.State), cmp.Compare(r.Message, other.Message))
}

func (s Settings) max(other Settings) Settings {
	return Settings{
		LimitMiB: max(s.LimitMiB, other.LimitMiB), HeapMiB: max(s.HeapMiB, other.HeapMiB), OverheadMiB: max(s.OverheadMiB, other.OverheadMiB),
		OffHeapMiB: max(s.OffHeapMiB, other.OffHeapMiB), PySparkMiB: max(s.PySparkMiB, other.PySparkMiB),
		Cores: max(s.Cores, other.Cores), TaskCPUs: max(s.TaskCPUs, other.TaskCPUs),
		LocalDirsInMemory: s.LocalDirsInMemory || other.LocalDirsInMemory,
	}
}

// Max returns the higher of two measurements, each for itself.
func (p Peaks) Max(other Peaks) Peaks {
	return Peaks{
		HeapMiB: max(p.HeapMiB, other.HeapMiB), MetaspaceMiB: max(p.MetaspaceMiB, other.MetaspaceMiB), DirectMiB: max(p.DirectMiB, other.DirectMiB),
		OffHeapMiB: max(p.OffHeapMiB, other.OffHeapMiB), JVMMiB: max(p.JVMMiB, other.JVMMiB), PythonMiB: max(p.PythonMiB, other.PythonMiB),
		OtherMiB: max(p.OtherMiB, other.OtherMiB), AllMiB: max(p.AllMiB, other.AllMiB), OutsideMiB: max(p.OutsideMiB, other.OutsideMiB),
	}
}

// Lose marks runs as over whose driver is gone without that anybody saw its end. alive
// reports whether a run's driver may still exist.
func (s *Status) Lose(alive func(*Run) bool, most int) {
	s.Runs = slices.Clone(s.Runs)
	for i := range s.Runs {
		if r := &s.Runs[i]; r.State == Running && !alive(r) {
			r.State = Unknown
		}
	}
	s.bound(most)
}

// Saw notes when a run was written.
func (s *Status) Saw(run *Run, at time.Time) {
	if r := s.Run(run); r != nil {
		r.Seen = metav1.NewTime(at.UTC().Truncate(time.Second))
	}
}

// Read reads the status of a SparkJob from its fields, as a client that knows no types
// has them.
func Read(object map[string]any) (s Status, err error) {
	text, err := json.Marshal(object["status"])
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return Status{}, err
	}
	return s, nil
}

// LastUsed returns when the job was last used, as far as its runs show.
func (s *Status) LastUsed() (last metav1.Time) {
	for i := range s.Runs {
		r := &s.Runs[i]
		for _, at := range []*metav1.Time{&r.Began, r.Ended, &r.Seen} {
			if at != nil && last.Before(at) {
				last = *at
			}
		}
	}
	return last
}
