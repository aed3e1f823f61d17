package oom

import (
	"fmt"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Settings are the settings in force of a container that died, as its driver's UI
// showed them while it lived. With [Termination.HeapMiB] they add up to the limit,
// unless another system set the limit. Sizes are in MiB.
type Settings struct {
	// OverheadMiB is memoryOverhead. If OverheadUnset, Spark computed it with a
	// factor.
	OverheadMiB   int64 `json:"overheadMiB"`
	OverheadUnset bool  `json:"overheadUnset,omitempty"`
	OffHeapMiB    int64 `json:"offHeapMiB,omitempty"` // spark.memory.offHeap.size
	PySparkMiB    int64 `json:"pysparkMiB,omitempty"` // spark.executor.pyspark.memory
	// TaskCPUs is spark.task.cpus.
	TaskCPUs int `json:"taskCPUs,omitempty"`
}

// Peaks are the highest amounts of memory that an executor measured, each for itself,
// in MiB. All are 0 if it sent no heartbeat to its driver before it died.
type Peaks struct {
	// HeapMiB is what the heap held, garbage included.
	HeapMiB int64 `json:"heapMiB,omitempty"`
	// MaxHeapMiB is the highest HeapMiB of all executors that the driver listed.
	MaxHeapMiB int64 `json:"maxHeapMiB,omitempty"`
	// MetaspaceMiB is what the JVM used for itself: metaspace and compiled code.
	MetaspaceMiB int64 `json:"metaspaceMiB,omitempty"`
	// DirectMiB is what buffers outside of the heap held, mapped files included.
	DirectMiB int64 `json:"directMiB,omitempty"`
	// OffHeapMiB is what Spark used of spark.memory.offHeap.size.
	OffHeapMiB int64 `json:"offHeapMiB,omitempty"`
	// JVMMiB, PythonMiB and OtherMiB are the resident memory of the container's
	// processes. They are 0 unless spark.executor.processTreeMetrics.enabled is true.
	JVMMiB    int64 `json:"jvmMiB,omitempty"`
	PythonMiB int64 `json:"pythonMiB,omitempty"`
	OtherMiB  int64 `json:"otherMiB,omitempty"`

	// WithinSeconds is how long before its death the last measurement was taken, at most.
	WithinSeconds int `json:"withinSeconds,omitempty"`
	// OverSeconds is how long the executor ran.
	OverSeconds int `json:"overSeconds,omitempty"`
}

// isEmpty reports whether nothing was measured.
func (p *Peaks) isEmpty() bool { return p.HeapMiB == 0 }

// processes returns what all processes of the container held at their peaks, or 0 if
// processes were not measured.
func (p *Peaks) processes() int64 {
	if p.JVMMiB == 0 {
		return 0
	}
	return p.JVMMiB + p.PythonMiB + p.OtherMiB
}

// SetSettings replaces estimates by the settings in force. It ignores settings that
// contradict the pod, because the pod is right.
func (t *Termination) SetSettings(s *spark.Settings, language spark.Language) {
	if s == nil || !t.IsSparks() || t.LimitMiB == 0 || t.raised() != nil {
		return
	}
	m := s.Driver
	if t.Role == spark.Executor {
		of, known := s.Of(t.ResourceProfile())
		if !known {
			return
		}
		m = of
	}
	if m.Heap == 0 || m.Heap > t.LimitMiB || !t.Estimated && t.HeapMiB != m.Heap {
		return
	}
	if language != spark.Python {
		m.PySpark = 0 // Spark ignores it (BasicExecutorFeatureStep.scala)
	}
	settings := &Settings{OverheadMiB: m.Overhead, OffHeapMiB: m.OffHeap, PySparkMiB: m.PySpark}
	if m.Overhead == 0 {
		settings.OverheadMiB, settings.OverheadUnset = t.LimitMiB-m.Heap-m.OffHeap-m.PySpark, true
		if t.RequestMiB > 0 && t.RequestMiB < t.LimitMiB { // Spark asked for the request
			settings.OverheadMiB -= t.LimitMiB - t.RequestMiB
		}
	}
	if settings.OverheadMiB <= 0 {
		return
	}
	if t.Role == spark.Executor {
		settings.TaskCPUs = s.TaskCPUs
	}
	t.HeapMiB, t.Estimated, t.Settings = m.Heap, false, settings
}

// IsProfileOf reports whether the settings have the resource profile of an executor.
func (t *Termination) IsProfileOf(s *spark.Settings) bool {
	_, known := s.Of(t.ResourceProfile())
	return known || t.Role != spark.Executor
}

// ResourceProfile returns the ID of the executor's resource profile; "0" is that of Spark's configuration.
func (t *Termination) ResourceProfile() string {
	if t.Profile == "" {
		return "0"
	}
	return t.Profile
}

// MeasuredExecutor returns the number of the executor if its measurements say more
// about its death, or 0.
func (t *Termination) MeasuredExecutor() int64 {
	memory := t.Cause == OOMKilled || t.Cause == ChildOOMKilled || t.Cause == HeapOOM || t.Suspected()
	if t.Role != spark.Executor || !t.isNumbered() || !t.IsSparks() || !memory {
		return 0
	}
	return t.Number
}

// SetPeaks sets what an executor measured, as its driver's UI showed it at a time.
func (t *Termination) SetPeaks(p Peaks, s *spark.Settings, said time.Time) {
	p.OverSeconds = int(t.lived.Seconds())
	if p.HeapMiB > t.HeapMiB && t.HeapMiB > 0 { // no heap holds more than it may
		return
	}
	if !p.isEmpty() {
		p.WithinSeconds = s.HeartbeatSeconds + int(max(t.At.Sub(said), 0).Seconds())
	}
	t.Peaks = &p
}

// user is something that may use memory in a container outside of the heap.
type user struct {
	name  string
	mib   int64
	least string // "at least " if it may be more
}

// largest returns the user of most of the memory outside of the heap, or none if the
// measurements do not show it. Of a JVM it counts only what is more than its whole heap,
// because pages of the heap stay resident. If processes were not measured, only a user
// of more than half of all that is not heap is the largest for sure.
func (a *adviser) largest() user {
	var most user
	p := a.Peaks
	if p.JVMMiB == 0 {
		most.mib = (a.LimitMiB - p.HeapMiB) / 2
	}
	for _, u := range []user{
		{"its Python workers", p.PythonMiB, ""},
		{"other processes of the container", p.OtherMiB, ""},
		{"its direct buffers", p.DirectMiB, ""},
		{"Spark's off-heap memory", p.OffHeapMiB, ""},
		{"its metaspace and compiled code", p.MetaspaceMiB, ""},
		{"native memory of its JVM", p.JVMMiB - a.HeapMiB - p.MetaspaceMiB - p.DirectMiB - p.OffHeapMiB, "at least "},
	} {
		if u.mib > most.mib {
			most = u
		}
	}
	return most
}

// measured returns what an executor measured before it died, or "" if its driver was
// not asked.
func (a *adviser) measured() string {
	p := a.Peaks
	switch {
	case p == nil:
		return ""
	case p.isEmpty():
		return "It sent no heartbeat before it died, so its memory was not measured."
	}
	parts := []string{fmt.Sprintf("its heap held up to %d of %d MiB", p.HeapMiB, a.HeapMiB)}
	if a.HeapMiB == 0 {
		parts[0] = fmt.Sprintf("its heap held up to %d MiB", p.HeapMiB)
	}
	if p.JVMMiB > 0 {
		parts = append(parts, fmt.Sprintf("its JVM took up to %d MiB in all", p.JVMMiB))
	}
	if p.PythonMiB > 0 {
		parts = append(parts, fmt.Sprintf("its Python workers up to %d MiB", p.PythonMiB))
	}
	if p.OtherMiB > 0 {
		parts = append(parts, fmt.Sprintf("other processes up to %d MiB", p.OtherMiB))
	}
	if p.JVMMiB == 0 && p.DirectMiB+p.OffHeapMiB > 0 {
		parts = append(parts, fmt.Sprintf("buffers outside of the heap up to %d MiB", p.DirectMiB+p.OffHeapMiB))
	}
	if p.JVMMiB == 0 && p.MetaspaceMiB > 0 {
		parts = append(parts, fmt.Sprintf("its metaspace and compiled code up to %d MiB", p.MetaspaceMiB))
	}
	return fmt.Sprintf("Until its last heartbeat, at most %d s before its death, %s.", p.WithinSeconds, list(parts))
}

// list returns "a, b and c".
func list(parts []string) string {
	last := len(parts) - 1
	if last < 1 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}

// shortfall returns which part of the memory was too small, by the measurements, or ""
// if they do not show it.
func (a *adviser) shortfall() string {
	p, named := a.Peaks, ""
	if a.LocalDirsInMemory {
		return "Spark's local files are in memory, and count in addition."
	}
	if most := a.largest(); most.name != "" {
		named = fmt.Sprintf("Outside of the heap, %s took most (%s%d MiB).", most.name, most.least, most.mib)
	}
	if a.FarBelowLimit() {
		named += fmt.Sprintf(" All processes together took %d of %d MiB. Either the memory grew after the last heartbeat, or the node ran out of memory and not this container.", p.processes(), a.LimitMiB)
	}
	return named
}

// limitParts returns "5734 MiB (heap 4096, memoryOverhead 1638)", by the settings in
// force.
func (a *adviser) limitParts() string {
	parts := []string{fmt.Sprintf("heap %d, memoryOverhead %d", a.HeapMiB, a.Settings.OverheadMiB)}
	if a.Settings.OffHeapMiB > 0 {
		parts = append(parts, fmt.Sprintf("spark.memory.offHeap.size %d", a.Settings.OffHeapMiB))
	}
	if a.Settings.PySparkMiB > 0 {
		parts = append(parts, fmt.Sprintf("spark.executor.pyspark.memory %d", a.Settings.PySparkMiB))
	}
	if a.asked() != a.LimitMiB {
		return fmt.Sprintf("%d MiB. Spark asked for %d (%s)", a.LimitMiB, a.asked(), strings.Join(parts, ", "))
	}
	return fmt.Sprintf("%d MiB (%s)", a.LimitMiB, strings.Join(parts, ", "))
}

// raiseFromSettings advises a memoryOverhead by the one in force, and by what was measured.
// If the heap was never more than half full while the executor ran for some time, it
// also advises a smaller heap, and the memoryOverhead rises by at least as much.
func (a *adviser) raiseFromSettings(name string) string {
	now, p := a.Settings.OverheadMiB, a.Peaks
	next := moreOverhead(now)
	if p != nil {
		outside := p.PythonMiB + p.OtherMiB + max(p.JVMMiB-a.HeapMiB, p.MetaspaceMiB+p.DirectMiB+p.OffHeapMiB)
		next = max(next, roundUp(outside+outside/4-a.Settings.OffHeapMiB-a.Settings.PySparkMiB, 100))
	}
	heap, freed, ok := a.smallerHeap()
	if !ok {
		return a.set(Change{Setting: name, Now: Memory(now), Next: Memory(next)}) + a.fewerCores() + "." + a.fits(next-now)
	}
	next = max(next, now+freed)
	why := fmt.Sprintf("No executor's heap held more than %d of %d MiB", p.highestHeap(), a.HeapMiB)
	if next == now+freed {
		why += ", so the pod can keep its size"
	}
	larger := a.set(Change{Setting: name, Now: Memory(now), Next: Memory(next)})
	smaller := a.set(Change{Setting: a.name("memory"), Now: Memory(a.HeapMiB), Next: Memory(heap), Why: why + "."})
	return larger + " and " + strings.TrimPrefix(smaller, "Set ") + a.fewerCores() + ". " + why + "." + a.fits(next-now-freed)
}

// highestHeap returns the highest peak of an executor's heap.
func (p *Peaks) highestHeap() int64 { return max(p.HeapMiB, p.MaxHeapMiB) }

// heapMayBeFull reports whether the measurements do not show that the heap was far from
// full, on all executors.
func (a *adviser) heapMayBeFull() bool {
	return a.Peaks == nil || a.Peaks.isEmpty() || a.Peaks.highestHeap()*100 > a.HeapMiB*farFromFull
}

// smallerHeap returns a heap that is enough by the measurements, and how much smaller
// it is. ok is false if they do not show it.
func (a *adviser) smallerHeap() (heap, freed int64, ok bool) {
	p := a.Peaks
	if p == nil || p.JVMMiB == 0 || p.OverSeconds < enoughSeconds || a.heapMayBeFull() {
		return 0, 0, false
	}
	heap = roundUp(max(p.highestHeap()*3/2, leastHeap), 256)
	return heap, a.HeapMiB - heap, heap < a.HeapMiB
}

// FarBelowLimit reports whether all processes together were far below the limit when
// they were measured last.
func (t *Termination) FarBelowLimit() bool {
	return t.Peaks != nil && t.Peaks.processes() > 0 && !t.LocalDirsInMemory && t.Peaks.processes()*100 < t.LimitMiB*farBelow
}

const (
	// leastHeap is in MiB: Spark refuses to start with less than 450.
	leastHeap = 512
	// enoughSeconds is how long an executor must have run, so that its heap's peak says
	// what it needs.
	enoughSeconds = 600
	// farBelow and farFromFull are percentages: of a limit that the processes may not
	// have reached, and of a heap that may be smaller.
	farBelow, farFromFull = 60, 50
)
