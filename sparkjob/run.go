package sparkjob

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	maxName    = 253 // bytes of names, which strangers choose
	maxMessage = 1 << 10
	maxDeaths  = 12 // kinds of deaths of a run
)

// Evidence is what is known of a run.
type Evidence struct {
	// Driver is the driver's pod, and Gone is true if it was deleted.
	Driver spark.Pod
	Gone   bool
	// Record is the driver's record, with the driver's own death.
	Record *oom.Record
	// Executors are its executors' pods that are known.
	Executors []*corev1.Pod
	// Needed are plans that came too late for the run.
	Needed []annotations.RemedyPlan
	// Noted is what was noted of an executor whose pod may be gone, or nil.
	Noted *Executors
}

// Executors is what Spark asks for executors of its default resource profile, and whether
// their rule lets the next run start with what this one needed.
type Executors struct {
	settings Settings
	nextRun  annotations.Mode
}

// ExecutorsOf returns what an executor shows, or nil if it is of another resource profile.
func ExecutorsOf(executor spark.Pod) *Executors {
	if executor.ResourceProfile() != "0" {
		return nil
	}
	change := changeOf(annotations.ReadRemedyStamp(executor.Annotations[annotations.Remedied]))
	mode, _ := annotations.ReadNextRun(executor.Annotations[annotations.RemedyRule])
	return &Executors{settingsOf(executor).without(change), mode}
}

// addExecutors adds what an executor shows.
func (r *Run) addExecutors(e *Executors) {
	if e != nil {
		r.Settings.Executor = r.Settings.Executor.max(e.settings)
		r.NextRun.Executor = max(r.NextRun.Executor, e.nextRun)
	}
}

// RunOf returns what is known of a run.
func RunOf(e Evidence) Run {
	r := Run{
		Driver: cut(e.Driver.Name, maxName), UID: e.Driver.UID, Application: cut(e.Driver.Application(), maxName), Version: cut(e.Driver.Version(), maxName),
		Began: e.Driver.CreationTimestamp, Reason: cut(e.Record.Reason(), maxName),
		Executors: e.Record.Executors, LostExecutorSeconds: e.Record.LostSeconds,
		ResourceVersion: e.Driver.ResourceVersion,
	}
	r.Remedy = Containers[Change]{changeOf(annotations.ReadRemedyStamp(e.Driver.Annotations[annotations.Remedied])), planned(e.Record.Remedy, annotations.Enabled)}
	r.Remedy.Driver.FromStart = r.Remedy.Driver != Change{}
	r.Needed = e.needed(r.Remedy.Executor)
	r.NextRun.Driver, r.MaxDriverMiB = annotations.ReadNextRun(e.Driver.Annotations[annotations.RemedyRule])
	r.State, r.Ended = e.end()
	if !e.Record.IsZero() {
		r.Message = cut(e.Record.Message(e.Driver), maxMessage)
	}
	for _, d := range e.Record.Deaths[:min(len(e.Record.Deaths), maxDeaths)] {
		d.Container = cut(d.Container, maxName)
		r.Deaths = append(r.Deaths, d)
	}
	if r.Ended != nil && r.State.IsBad() {
		r.LostExecutorSeconds += e.stranded(*r.Ended)
	}
	r.Settings.Driver = settingsOf(e.Driver).without(r.Remedy.Driver)
	if d := e.Record.Driver; d != nil && !d.Estimated && d.IsSparks() && r.Remedy.Driver == (Change{}) && d.Settings == nil { // from its ConfigMap or arguments
		r.Settings.Driver = r.Settings.Driver.max(Settings{HeapMiB: d.HeapMiB})
	}
	for _, p := range e.Executors {
		if executor, err := spark.PodOf(p); err == nil && executor.Role == spark.Executor {
			r.addExecutors(ExecutorsOf(executor))
		}
	}
	r.addExecutors(e.Noted)
	for i := range e.Record.Details {
		if t := &e.Record.Details[i]; t.Role == spark.Executor && t.Peaks != nil {
			r.Peaks.Executor = r.Peaks.Executor.Max(PeaksOf(t.Peaks))
		}
	}
	return r
}

// EndAs takes the end of the run from what was seen before its driver was deleted. A pod
// that is being deleted does not show whether its container would have ended without
// that.
func (r *Run) EndAs(before *Run) {
	r.LostExecutorSeconds = max(r.LostExecutorSeconds, before.LostExecutorSeconds)
	if r.State == Stopped || r.State == Unknown {
		r.State, r.Ended, r.Reason, r.Message, r.Deaths = before.State, before.Ended, before.Reason, before.Message, before.Deaths
	}
}

// end returns the state of a run, and when it ended.
func (e *Evidence) end() (State, *metav1.Time) {
	end, ended := e.Driver.End()
	at := &end.At
	if end.At.IsZero() {
		at = nil
	}
	state := e.Record.State(e.Driver)
	switch {
	case !ended && e.Gone:
		return Unknown, nil
	case !ended, e.Driver.Restarts() && e.Driver.Status.Phase != corev1.PodFailed && !end.Success && !e.Gone:
		return Running, nil
	case state != "":
		if at == nil && e.Record.Driver != nil {
			at = &e.Record.Driver.At
		}
		return State(state), at
	case end.Success:
		return Succeeded, at
	}
	return Stopped, at
}

// longest limits what clocks that are wrong can say of an executor's time.
const longest = 30 * 24 * time.Hour

// stranded returns for how many seconds executors had run that were lost with their
// driver: their containers ran until then, and end because of it.
func (e *Evidence) stranded(end metav1.Time) (seconds int64) {
	for _, p := range e.Executors {
		executor, err := spark.PodOf(p)
		if err != nil {
			continue
		}
		if began := beganBefore(executor, end); !began.IsZero() {
			seconds += int64(min(end.Sub(began.Time), longest).Seconds())
		}
	}
	return seconds
}

// beganBefore returns when an executor's container began that ran at a time, or a zero
// time if it did not run then.
func beganBefore(executor spark.Pod, at metav1.Time) (began metav1.Time) {
	status := executor.ContainerStatus()
	switch {
	case status == nil:
		return began
	case status.State.Running != nil:
		began = status.State.Running.StartedAt
	case status.State.Terminated != nil && !status.State.Terminated.FinishedAt.Before(&at):
		began = status.State.Terminated.StartedAt
	}
	if !began.Before(&at) {
		return metav1.Time{}
	}
	return began
}

// changeOf returns how a pod was changed, by its stamp.
func changeOf(stamp annotations.RemedyStamp) (c Change) {
	if stamp.Mode == annotations.Audit {
		return Change{}
	}
	c.FromCores, c.ToCores = int64(stamp.FromCores), int64(stamp.ToCores)
	return c.withMemory(stamp.Memory)
}

func (c Change) withMemory(m *annotations.RemedyMemory) Change {
	if m == nil {
		return c
	}
	c.FromLimitMiB, c.ToLimitMiB, c.FromHeapMiB, c.ToHeapMiB = m.FromLimitMiB, m.ToLimitMiB, m.FromHeapMiB, m.ToHeapMiB
	c.Executors = int64(m.Executors)
	return c
}

// withoutMemory returns the change of cores alone.
func (c Change) withoutMemory() Change {
	if c.FromCores == c.ToCores {
		return Change{}
	}
	return Change{FromCores: c.FromCores, ToCores: c.ToCores, FromStart: c.FromStart}
}

// gives returns what a container gets by a change.
func (c Change) gives() Change {
	c.Executors, c.Withdrawn = 0, false
	if c.FromCores == c.ToCores && c.ToLimitMiB == 0 {
		return Change{}
	}
	return c
}

// without returns the settings of a container as Spark asked for them, before a change.
func (s Settings) without(c Change) Settings {
	if c.ToCores > 0 && s.Cores == c.ToCores {
		s.Cores = c.FromCores
	}
	if c.ToLimitMiB > 0 && s.LimitMiB == c.ToLimitMiB {
		s.LimitMiB = c.FromLimitMiB
	}
	if c.ToHeapMiB > 0 && s.HeapMiB == c.ToHeapMiB {
		s.HeapMiB = c.FromHeapMiB
	}
	return s
}

// settingsOf returns what a pod shows. An estimated heap is none.
func settingsOf(p spark.Pod) Settings {
	m := p.Memory()
	s := Settings{LimitMiB: m.Limit >> 20, LocalDirsInMemory: len(p.LocalDirsInMemory()) > 0}
	if p.Role == spark.Executor {
		s.Cores = int64(p.Cores())
	}
	if !m.Estimated {
		s.HeapMiB = m.Heap >> 20
	}
	return s
}

// Set adds the settings that a driver's UI shows.
func (r *Run) Set(s *spark.Settings, language spark.Language) {
	if s == nil {
		return
	}
	of := func(m spark.MemorySettings) Settings {
		if language != spark.Python {
			m.PySpark = 0 // Spark ignores it
		}
		return Settings{HeapMiB: m.Heap, OverheadMiB: m.Overhead, OffHeapMiB: m.OffHeap, PySparkMiB: m.PySpark}
	}
	executor := of(s.Executor)
	executor.TaskCPUs = int64(s.TaskCPUs)
	// A driver that was changed has the changed heap among its settings.
	driver := of(s.Driver).without(r.Remedy.Driver)
	if !driver.agrees(r.Settings.Driver.LimitMiB, language) {
		driver.HeapMiB = 0
	}
	r.Settings = Containers[Settings]{r.Settings.Driver.max(driver), r.Settings.Executor.max(executor)}
}

// agrees reports whether the settings of a driver lead to its limit. The program may set
// spark.driver.memory too late: then its JVM has another heap.
func (s Settings) agrees(limit int64, language spark.Language) bool {
	switch {
	case limit == 0:
		return true
	case s.OverheadMiB > 0:
		return s.HeapMiB+s.OverheadMiB == limit
	}
	return spark.DriverLimitMiB(s.HeapMiB, language) == limit
}

// AddPeaks adds what the driver said when it was asked at a time; nil if it was not.
func (r *Run) AddPeaks(p Containers[Peaks], asked *metav1.Time) {
	r.Peaks = Containers[Peaks]{r.Peaks.Driver.Max(p.Driver), r.Peaks.Executor.Max(p.Executor)}
	r.Measured = latest(r.Measured, asked)
}

// PeaksOf returns what an executor measured.
func PeaksOf(p *oom.Peaks) Peaks {
	peaks := Peaks{
		HeapMiB: p.HeapMiB, MetaspaceMiB: p.MetaspaceMiB, DirectMiB: p.DirectMiB, OffHeapMiB: p.OffHeapMiB,
		JVMMiB: p.JVMMiB, PythonMiB: p.PythonMiB, OtherMiB: p.OtherMiB,
	}
	return peaks.WithSums()
}

// WithSums returns the peaks of one container with their sums. What a JVM took beside its
// heap is at most all that it took, without what its heap held: a page that the heap once
// used stays. The sums of several containers differ from those of their highest peaks.
func (p Peaks) WithSums() Peaks {
	if p.JVMMiB > 0 {
		p.AllMiB = p.JVMMiB + p.PythonMiB + p.OtherMiB
		p.OutsideMiB = p.PythonMiB + p.OtherMiB + max(p.JVMMiB-p.HeapMiB, p.MetaspaceMiB+p.DirectMiB+p.OffHeapMiB)
	}
	return p
}

// needed returns what executors would have got if the run had not ended before, or if
// their remedy were not in audit; or nothing if they got it.
func (e *Evidence) needed(got Change) Change {
	for _, c := range []Change{planned(e.Needed, annotations.Enabled), planned(e.Needed, annotations.Audit), planned(e.Record.Remedy, annotations.Audit)} {
		if c.gives() != (Change{}) && c != got {
			return c
		}
	}
	return Change{}
}

// planned returns what executors of the default resource profile get by the plans of
// their driver that have a mode.
func planned(plans []annotations.RemedyPlan, mode annotations.Mode) (c Change) {
	for i := range plans {
		p := &plans[i]
		if p.Profile != "0" || p.Mode != mode {
			continue
		}
		if c.Withdrawn = p.Withdrawn != "" && (p.Memory == nil || !p.Memory.Started); !p.Changes() {
			continue
		}
		c.FromCores, c.ToCores, c.FromStart = int64(p.FromCores), int64(p.ToCores), p.Run != ""
		if p.MoreMemory() {
			c = c.withMemory(p.Memory)
		}
	}
	return c
}

// cut returns a text, or its beginning if it is longer than the limit.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}
