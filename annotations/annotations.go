// Package annotations is the contract of spark-vitals with all programs that read or
// write its annotations: the keys, who writes them, and on which pods.
// docs/annotations.md describes the values. It imports no other package of the project,
// so a gateway can import it.
package annotations

import "slices"

// Prefix is the prefix of every annotation, and of the namespace label [Inject].
const Prefix = "spark-vitals.io/"

// Settings, which the user writes on drivers and executors. There are also the
// per-probe "<probe>.<field>" and the switches that package policy lists.
const (
	Inject = Prefix + "inject" // disabled or audit; as a label of a namespace enabled or audit
	Rule   = Prefix + "rule"   // the name of a rule or of a ready-made rule set
	Job    = Prefix + "job"    // on drivers: the name of the SparkJob that the application is a run of
	// RemedyMode is disabled, audit or enabled. An executor has it from its creation. A
	// driver may get it while it runs: its later executors then have that mode at most.
	RemedyMode = Prefix + "remedy.mode"
)

// Stamps, which the webhook writes when a pod is created. They are for readers. One
// decides something: the recorder plans a remedy only because of [RemedyRule].
const (
	Injected       = Prefix + "injected"        // JSON: the rule, what was set, what was left alone and why
	Warnings       = Prefix + "warnings"        // one a line
	MemoryLimit    = Prefix + "memory-limit"    // of Spark's container: "896Mi"
	MemoryHeap     = Prefix + "memory-heap"     // of the JVM: "512Mi"
	MemoryOverhead = Prefix + "memory-overhead" // what the limit leaves beside the heap: "384Mi"
	MemorySource   = Prefix + "memory-source"   // where the heap is known from: FromPod or Estimated
	LogStallAfter  = Prefix + "log-stall-after" // on drivers that are watched: how long the log may be silent, "30m"
	RemedyRule     = Prefix + "remedy-rule"     // JSON, on pods that may be remedied: what the rule allows
	Remedied       = Prefix + "remedied"        // JSON: what was changed because earlier pods died of memory
)

// NextRun is on a SparkJob whose next driver is to get more memory: as an annotation how
// much ([RemedyMemory], as JSON), and as a label that there is one. The recorder writes
// it, and the webhook watches only such jobs.
const NextRun = Prefix + "next-run"

// Stamps are all keys that only the webhook writes.
var Stamps = []string{Injected, Warnings, MemoryLimit, MemoryHeap, MemoryOverhead, MemorySource, LogStallAfter, RemedyRule, Remedied}

// The record of a driver. The recorder, the stall watch and the releaser write it
// while the driver runs and after its death, never at creation.
const (
	State    = Prefix + "state"
	Reason   = Prefix + "reason"
	Message  = Prefix + "message"
	Advice   = Prefix + "advice" // JSON: the settings that the message advises, for programs
	OOM      = Prefix + "oom"
	Remedy   = Prefix + "remedy"   // JSON: what later executors are to get; see [RemedyPlan]
	Previous = Prefix + "previous" // JSON: how the driver ended that the same SparkApplication had before; nothing of this driver
	Stalled  = Prefix + "stalled"
	Released = Prefix + "released"
)

// Record is all keys of a driver's record. They are removed from new pods: a pod that
// is only being created cannot have died.
var Record = []string{State, Reason, Message, Advice, OOM, Remedy, Previous, Stalled, Released}

// Death is the part of a record that the recorder writes together and takes back
// together. It writes [Previous] by itself. The stall watch writes [Stalled], and the
// releaser [Released].
var Death = []string{State, Reason, Message, Advice, OOM, Remedy}

// DeathCondition is the type of the pod condition that comes with State, for programs
// that read a pod's status but not its annotations.
const DeathCondition = Prefix + "Death"

// IsStamp reports whether only the webhook writes the key.
func IsStamp(key string) bool { return slices.Contains(Stamps, key) }

// IsRecord reports whether the key belongs to a driver's record.
func IsRecord(key string) bool { return slices.Contains(Record, key) }
