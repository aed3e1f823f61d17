package sparkjob

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
)

// Resource is the resource of the objects.
var Resource = schema.GroupVersionResource{Group: "spark-vitals.io", Version: "v1alpha1", Resource: "sparkjobs"}

// Kind is the kind of the objects.
const Kind = "SparkJob"

// SparkJob is the memory of one job in a namespace. The recorder writes it.
type SparkJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Status            Status `json:"status,omitzero"`
}

// Status is the last runs, and what follows from them. Only [Status.Add] changes it.
type Status struct {
	// Runs are the last ones, the newest first.
	Runs []Run `json:"runs,omitempty"`

	// The rest follows from them.

	// Known is how many they are, and Bad how many of them failed or were killed.
	Known int `json:"known"`
	Bad   int `json:"bad"`
	// Deaths is how many containers of Spark's died in them.
	Deaths int `json:"deaths"`
	// LostExecutorHours is the time that executors ran in vain, such as "12.5".
	LostExecutorHours string `json:"lostExecutorHours"`
	// Advice is what to do, in words.
	Advice string `json:"advice,omitempty"`
	// NextRun is what the next run starts with, because earlier ones died of memory.
	NextRun Containers[Next] `json:"nextRun,omitzero"`
}

// State is how a run ended.
type State string

// The states. KILLED and FAILED are those of package oom, and are bad.
const (
	Running   State = "RUNNING"
	Succeeded State = "SUCCEEDED"
	Killed          = State(oom.StateKilled)
	Failed          = State(oom.StateFailed)
	// Stopped means that somebody ended the driver. It is no death.
	Stopped State = "STOPPED"
	// Unknown means that the driver is gone, and nobody saw its end.
	Unknown State = "UNKNOWN"
)

// IsBad reports whether the run ended without success, and nobody wanted that.
func (s State) IsBad() bool { return s == Killed || s == Failed }

// Run is one application of a job. Driver's UID and application identify it.
type Run struct {
	Driver      string    `json:"driver"`
	UID         types.UID `json:"uid"`
	Application string    `json:"application,omitempty"`
	Version     string    `json:"sparkVersion,omitempty"`

	Began metav1.Time `json:"began"`
	// Ended is nil while it runs, or if nobody saw its end.
	Ended *metav1.Time `json:"ended,omitempty"`
	State State        `json:"state"`
	// Reason is the annotation of that name: DriverOOMKilled. A run may succeed and have
	// the reason for which its executors died.
	Reason string `json:"reason,omitempty"`
	// Message is the annotation of that name. Only the newest run that has one keeps it.
	Message string `json:"message,omitempty"`
	// Deaths are how many containers ended of which cause.
	Deaths []oom.Deaths `json:"deaths,omitempty"`
	// Executors is how many were started.
	Executors int64 `json:"executors,omitempty"`
	// LostExecutorSeconds is the time for which executors ran that died, or that were lost
	// with their driver.
	LostExecutorSeconds int64 `json:"lostExecutorSeconds,omitempty"`

	Settings Containers[Settings] `json:"settings,omitzero"`
	Peaks    Containers[Peaks]    `json:"peaks,omitzero"`
	// Measured is when the driver was asked for peaks last.
	Measured *metav1.Time `json:"measured,omitempty"`
	// Remedy is how its containers were changed.
	Remedy Containers[Change] `json:"remedy,omitzero"`
	// Needed is what later executors would have got if the run had not ended before.
	Needed Change `json:"needed,omitzero"`
	// NextRun is whether the rules let the next run start with what this one needed: audit,
	// enabled or "". It is "" too if no pod of the role was seen.
	NextRun Containers[annotations.Mode] `json:"nextRun,omitzero"`
	// MaxDriverMiB is the largest limit that the rule lets a driver have.
	MaxDriverMiB int64 `json:"maxDriverMiB,omitempty"`

	// ResourceVersion is that of the driver's pod from which this is known.
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Seen is when it was written.
	Seen metav1.Time `json:"seen,omitzero"`
}

// Containers is something about the driver's container, and about those of executors:
// settings and changes are those of Spark's default resource profile, and peaks the
// highest of all.
type Containers[T any] struct {
	Driver   T `json:"driver,omitzero"`
	Executor T `json:"executor,omitzero"`
}

// Settings are the settings of a container that decide its memory, as Spark asked for it.
// 0 is not known, or not set.
type Settings struct {
	LimitMiB int64 `json:"limitMiB,omitempty"`
	HeapMiB  int64 `json:"heapMiB,omitempty"`
	// OverheadMiB is memoryOverhead, if it was set.
	OverheadMiB int64 `json:"overheadMiB,omitempty"`
	OffHeapMiB  int64 `json:"offHeapMiB,omitempty"`
	PySparkMiB  int64 `json:"pysparkMiB,omitempty"`
	Cores       int64 `json:"cores,omitempty"`
	TaskCPUs    int64 `json:"taskCPUs,omitempty"`
	// LocalDirsInMemory is true if Spark keeps its local files in memory. They count
	// toward the limit, and no process's memory shows them.
	LocalDirsInMemory bool `json:"localDirsInMemory,omitempty"`
}

// Peaks are the highest amounts of memory that one container's processes took, each for
// itself. 0 is not known.
type Peaks struct {
	HeapMiB      int64 `json:"heapMiB,omitempty"` // garbage included
	MetaspaceMiB int64 `json:"metaspaceMiB,omitempty"`
	DirectMiB    int64 `json:"directMiB,omitempty"`
	OffHeapMiB   int64 `json:"offHeapMiB,omitempty"`
	// JVMMiB and the next ones are the resident memory of processes. They are 0 unless
	// spark.executor.processTreeMetrics.enabled is true.
	JVMMiB    int64 `json:"jvmMiB,omitempty"`
	PythonMiB int64 `json:"pythonMiB,omitempty"`
	OtherMiB  int64 `json:"otherMiB,omitempty"`
	// AllMiB is the most that the processes of one container took together, if the peaks
	// came at the same time. It is at least what they really took.
	AllMiB int64 `json:"allMiB,omitempty"`
	// OutsideMiB is the same without the heap.
	OutsideMiB int64 `json:"outsideMiB,omitempty"`
}

// Change is how a container is changed, or was, against what Spark asked for. Executors
// are those of Spark's default resource profile. Cores may be the same, and those of a
// driver are 0. Memory that is 0 does not change.
type Change struct {
	FromCores    int64 `json:"fromCores,omitempty"`
	ToCores      int64 `json:"toCores,omitempty"`
	FromLimitMiB int64 `json:"fromLimitMiB,omitempty"`
	ToLimitMiB   int64 `json:"toLimitMiB,omitempty"`
	FromHeapMiB  int64 `json:"fromHeapMiB,omitempty"`
	ToHeapMiB    int64 `json:"toHeapMiB,omitempty"`
	// FromStart is true if the containers had it from the start of the run.
	FromStart bool `json:"fromStart,omitempty"`
	// Executors is how many executors ran before they got more memory.
	Executors int64 `json:"executors,omitempty"`
	// Withdrawn is true if more memory was taken back, because executors with it did not
	// start.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Next is what a container of the next run starts with.
type Next struct {
	// Mode is Enabled, or Audit: then nothing is changed.
	Mode   annotations.Mode `json:"mode,omitempty"`
	Change Change           `json:"change,omitzero"`
	// Run is the name of the driver of the run that needed it.
	Run string `json:"run,omitempty"`
}
