package oom

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Message says what happened, in numbers, what can be concluded, and one
// setting to change, with a value; and what is not known. Of a driver that
// ended by itself it also says how its executors did.
func (r *Record) Message(driver spark.Pod) string {
	var parts []string
	if r.Driver != nil {
		parts = append(parts, r.Advice(r.Driver, driver))
	}
	parts = append(parts, r.executorsEnds()...)
	if d := r.headline(); d != nil && (r.Driver == nil || r.Driver.Cause == Failed || r.Driver.Cause == ChildOOMKilled) {
		parts = append(parts, r.Advice(d, driver))
	}
	return strings.Join(parts, " ")
}

// headline is the newest detail of the cause that was counted most.
func (r *Record) headline() *Termination {
	var best *Termination
	for i := range r.Details {
		d := &r.Details[i]
		if best == nil || r.countLike(d) > r.countLike(best) {
			best = d
		}
	}
	return best
}

// countLike is how many died as t did.
func (r *Record) countLike(t *Termination) int {
	for _, d := range r.Deaths {
		if d.Role == t.Role && d.Container == t.Container && d.Cause == t.Cause {
			return d.Count
		}
	}
	return 0
}

// Advice for a termination of the driver's application: a few sentences.
func (r *Record) Advice(t *Termination, driver spark.Pod) string {
	a := adviser{
		Termination: t,
		settings:    settings{role: t.Role, submitter: driver.Submitter(), profile: t.Profile},
		language:    driver.Language(),
		driver:      driver,
	}
	text := a.sentences(r.howMany(t))
	return strings.Join(strings.Fields(text), " ")
}

// howMany is "3 of 20 executors died so.", "" of a driver and of a first death.
func (r *Record) howMany(t *Termination) string {
	n := r.countLike(t)
	switch {
	case t.Role == spark.Driver || n < 2:
		return ""
	case r.Executors >= int64(n) && strings.HasPrefix(t.Set, "executors"):
		return fmt.Sprintf("%d of %d executors died so.", n, r.Executors)
	}
	return fmt.Sprintf("This happened %d times.", n)
}

// adviser writes the sentences of one termination.
type adviser struct {
	*Termination
	settings
	language spark.Language
	driver   spark.Pod
}

func (a adviser) sentences(howMany string) string {
	if !a.IsSparks() {
		return a.sidecar(howMany)
	}
	if a.suspectsHeap() {
		return a.suspectedHeap(howMany)
	}
	switch a.Cause {
	case OOMKilled:
		return a.oomKilled(a.who()+" was killed by the kernel: container over its limit"+a.ofLimit()+".", howMany)
	case ChildOOMKilled:
		return a.oomKilled(fmt.Sprintf("A child process of %s%s was killed by the kernel at the container's limit%s; the container itself went on and ended with exit code %d.",
			lower(a.who()), a.mostOften(), a.ofLimit(), *a.ExitCode), howMany)
	case HeapOOM:
		return a.heapOOM(howMany)
	case JavaOOM:
		return a.javaOOM(howMany)
	case Hung:
		return a.hung()
	case Killed:
		return a.killed(howMany)
	case Disrupted:
		return a.who() + " was ended by the platform" + a.quote() + ". It is no fault of the application."
	case Crashed:
		return a.crashed(howMany)
	case Failed:
		return join(a.failed(), a.limitOfSpark())
	case Rejected, EvictedMemory, EvictedStorage, EvictedInodes, EvictedPIDs, EvictedEmptyDir, EvictedPodStorage, EvictedContainerStorage, Evicted:
		return a.evicted(howMany)
	default: // of a later version
		return join(a.who()+" ended: "+string(a.Cause)+a.quote()+".", howMany)
	}
}

func (a adviser) who() string {
	if a.Role == spark.Driver {
		return "Driver"
	}
	return "E" + a.String()[1:]
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func (a adviser) quote() string {
	if a.Said == "" {
		return ""
	}
	return " (" + strings.TrimRight(a.Said, ". ") + ")"
}

// ofLimit is " of 5734 MiB (heap 4096, the rest 1638 for ...)".
func (a adviser) ofLimit() string {
	if a.LimitMiB == 0 {
		return ""
	}
	what := "native and off-heap memory"
	switch a.language {
	case spark.JVM:
	case spark.Unknown:
		what = "native and off-heap memory, and Python if it is used"
	default:
		what = string(a.language) + ", " + what
	}
	switch {
	case a.HeapMiB == 0:
		return fmt.Sprintf(" of %d MiB (how much of it is heap is not known)", a.LimitMiB)
	case a.Estimated:
		return fmt.Sprintf(" of %d MiB (estimated: heap %d, the rest %d for %s)", a.LimitMiB, a.HeapMiB, a.rest(), what)
	}
	return fmt.Sprintf(" of %d MiB (heap %d, the rest %d for %s)", a.LimitMiB, a.HeapMiB, a.rest(), what)
}

func (a adviser) rest() int64 { return max(a.LimitMiB-a.HeapMiB, 0) }

func (a adviser) mostOften() string {
	switch a.language {
	case spark.JVM:
		return ""
	case spark.Unknown:
		return ", most often a Python worker if there are any,"
	default:
		return ", most often a " + string(a.language) + " worker,"
	}
}

func (a adviser) oomKilled(fact, howMany string) string {
	if a.LimitMiB == 0 {
		return join(a.who()+" was hit by the kernel for want of memory.", howMany, "The container has no memory limit: the node itself ran out of memory, and Spark's settings cannot prevent that. Give it a limit.")
	}
	inference := "The heap cannot exceed its own limit, so the rest was too small"
	if a.HeapMiB > 0 && !a.Estimated {
		inference = fmt.Sprintf("The heap cannot exceed %d, so the rest was too small", a.HeapMiB)
	}
	switch a.language {
	case spark.JVM:
		inference += ", most often for off-heap buffers, thread stacks or native libraries."
	case spark.Unknown:
		inference += ", most often for Python's processes, or without these for off-heap buffers, thread stacks or native libraries; which it was cannot be told."
	default:
		process := " workers"
		if a.Role == spark.Driver {
			process = "'s own process"
		}
		inference += ", most often for " + string(a.language) + process + "; which process it was cannot be told."
	}
	return join(fact, howMany, inference, "The peak was not measured.", a.raiseOverhead())
}

// raiseOverhead never names a value below the one in force: what is not known
// for sure is raised by an amount.
func (a adviser) raiseOverhead() string {
	name := a.name("memoryOverhead")
	switch {
	case a.limitIsOthers():
		return fmt.Sprintf("The limit was not set by Spark, which asked for %d MiB: raise that limit to %d MiB", a.RequestMiB, roundUp(a.LimitMiB+a.LimitMiB/4, 100)) + a.fewerCores() + "."
	case a.HeapMiB == 0 || a.Estimated:
		return fmt.Sprintf("Raise %s by %s.", name, a.quarter()) + a.where()
	case a.Role == spark.Executor && a.rest() > a.HeapMiB:
		return fmt.Sprintf("Raise %s by %s, unless spark.memory.offHeap.size or spark.executor.pyspark.memory makes up the rest: then that one", name, a.quarter()) + a.fewerCores() + "." + a.where()
	}
	now := memory(a.rest())
	if a.Role == spark.Executor {
		now += " at most" // with spark.memory.offHeap.size and spark.executor.pyspark.memory, which the pod does not tell apart
	}
	return fmt.Sprintf("Set %s=%s (now %s)", name, memory(moreOverhead(a.rest())), now) + a.fewerCores() + "." + a.where()
}

func (a adviser) quarter() string { return memory(roundUp(max(a.LimitMiB/4, 384), 128)) }

// limitIsOthers: Spark makes request and limit equal.
func (a adviser) limitIsOthers() bool { return a.RequestMiB > 0 && a.RequestMiB < a.LimitMiB }

func (a adviser) fewerCores() string {
	if a.Cores < 2 {
		return ""
	}
	return fmt.Sprintf("; or %s %d -> %d, so that fewer tasks share it", a.name("cores"), a.Cores, a.Cores/2)
}

func (a adviser) heapOOM(howMany string) string {
	size := "its size is not known"
	if a.HeapMiB > 0 {
		size = fmt.Sprintf("%d MiB", a.HeapMiB)
		if a.Estimated {
			size += ", estimated"
		}
	}
	if a.LimitMiB > 0 {
		size += fmt.Sprintf("; limit %d MiB", a.LimitMiB)
	}
	fact := fmt.Sprintf("%s ran out of Java heap (%s).", a.who(), size)
	if a.Said == "" {
		fact = fmt.Sprintf("%s ended with exit code %d, Spark's for any OutOfMemoryError of the JVM: most often its heap (%s); of what cannot be told.", a.who(), exitHeap, size)
	}
	limit := "The container's limit was not reached: memoryOverhead will not help."
	if a.LimitReached {
		limit = "The kernel has killed a process at the container's limit besides, so memoryOverhead may be too small as well."
	}
	remedy := "Raise " + a.name("memory")
	if heap := a.heapAtMost(); heap > 0 {
		remedy = fmt.Sprintf("Set %s=%s", a.name("memory"), memory(moreHeapThan(a.HeapMiB, heap)))
	}
	if a.Role == spark.Driver {
		collect := "collect()"
		if a.language == spark.Python || a.language == spark.Unknown {
			collect += " or toPandas()"
		}
		remedy += ", or write the result instead of " + collect
	} else {
		remedy += a.fewerCores()
	}
	return join(fact, howMany, limit, remedy+"."+a.where())
}

// heapAtMost is what the heap can be at most.
func (a adviser) heapAtMost() int64 {
	if a.HeapMiB > 0 && !a.Estimated {
		return a.HeapMiB
	}
	return a.LimitMiB
}

// moreHeapThan the heap, and never less than it can be at most.
func moreHeapThan(heap, atMost int64) int64 {
	return max(moreHeap(heap), roundUp(atMost+1, 1024))
}

func (a adviser) javaOOM(howMany string) string {
	remedy, found := javaLimitOf(a.Said)
	if !found {
		remedy = "Its log says of what"
	}
	if strings.Contains(remedy, "%s") {
		remedy = fmt.Sprintf(remedy, a.name("extraJavaOptions"))
	}
	return join(a.who()+"'s JVM ran out of something that is not its heap"+a.quote()+".", howMany, "More heap will not help.", remedy+".")
}

func (a adviser) hung() string {
	probe := a.driver.Container().LivenessProbe
	fact := a.who() + " was ended by the kubelet because its liveness or startup probe failed: it did not answer."
	if a.Role == spark.Driver && probe != nil {
		fact = fmt.Sprintf("Driver was ended by the kubelet because its liveness probe failed %d times, %d s apart: it did not answer.", probe.FailureThreshold, probe.PeriodSeconds)
	}
	remedy := "Was it only slow, set the annotation spark-vitals.io/liveness=false."
	if a.Role == spark.Driver && probe != nil {
		remedy = fmt.Sprintf("Was it only slow, raise the probe's failureThreshold to %d.", 2*int64(probe.FailureThreshold))
		if SetsLiveness(a.driver.Annotations[annotations.Injected]) {
			remedy = fmt.Sprintf("Was it only slow, set the annotation spark-vitals.io/liveness.failureThreshold=%d.", 2*int64(probe.FailureThreshold))
		}
	}
	return join(fact, "Why it did not answer is not known; its last log lines may tell.", remedy)
}

// SetsLiveness tells whether the stamp annotations.Injected says that the webhook
// set the liveness probe.
func SetsLiveness(stamp string) bool {
	var injected struct{ Set []string }
	return json.Unmarshal([]byte(stamp), &injected) == nil && slices.Contains(injected.Set, "livenessProbe")
}

func (a adviser) killed(howMany string) string {
	signal := *a.ExitCode - exitSignals
	fact := fmt.Sprintf("%s was ended by signal %d (exit code %d); nobody deleted its pod, and the kubelet gives no reason.", a.who(), signal, *a.ExitCode)
	if !a.Suspected() {
		return join(fact, howMany, "What sent the signal is not known.")
	}
	suspects := "the kernel for want of memory, which container runtimes sometimes fail to notice, or something in the container"
	if a.Role == spark.Driver && a.driver.Container().LivenessProbe != nil {
		suspects += ", or its liveness probe"
	}
	fact = join(fact, howMany, "Suspected: "+suspects+".")
	if a.LimitMiB == 0 {
		return fact
	}
	return join(fact, "Its limit is"+strings.TrimPrefix(a.ofLimit(), " of")+". If that was too little:", lower(a.raiseOverhead()))
}

// exitCodes that Spark and the JVM use for one purpose.
var exitCodes = map[int32]string{
	11: "too many executors failed; what they died of decides",
	10: "an uncaught error in a thread",
	50: "an uncaught error",
	52: "Spark's code for OutOfMemoryError, which the program may also use",
	3:  "the JVM's code for -XX:+ExitOnOutOfMemoryError, which Spark and programs use too",
}

func (a adviser) failed() string {
	if a.ExitCode == nil {
		return "Driver never ran: its pod failed before" + a.quote() + "."
	}
	fact := fmt.Sprintf("Driver ended by itself with exit code %d", *a.ExitCode)
	if meaning, ok := exitCodes[*a.ExitCode]; ok {
		fact += " (" + meaning + ")"
	}
	remedy := "Its log says why."
	if annotatesExit(a.driver.Version()) && a.driver.Annotations[ExitException] == "" {
		remedy += " Set spark.kubernetes.driver.annotateExitException=true to have the exception on the pod as well."
	}
	return join(fact+".", "No limit was reached as far as is known.", remedy)
}

// annotatesExit: spark.kubernetes.driver.annotateExitException, since Spark 4.1.
func annotatesExit(version string) bool {
	major, minor, _ := strings.Cut(version, ".")
	return len(major) == 1 && (major > "4" || major == "4" && minor != "" && minor[0] >= '1')
}

func (a adviser) evicted(howMany string) string {
	remedy := map[Cause]string{
		EvictedMemory:           "The node ran out of memory, not the container: a larger memoryOverhead makes the pod ask for more, so that it is placed where there is more.",
		EvictedStorage:          a.onVolume(),
		EvictedInodes:           a.onVolume(),
		EvictedPIDs:             "The node ran out of process ids; what used them up is not known. Run fewer tasks at a time on a node.",
		EvictedEmptyDir:         "Raise that volume's sizeLimit" + a.volumeSetting("emptyDir", "sizeLimit") + ", or " + lower(a.onVolume()),
		EvictedPodStorage:       "Raise limits.ephemeral-storage in " + a.kubernetes("podTemplateFile") + ", or " + lower(a.onVolume()),
		EvictedContainerStorage: "Raise limits.ephemeral-storage in " + a.kubernetes("podTemplateFile") + ", or " + lower(a.onVolume()),
		Rejected:                "It never ran. Spark asks for another executor by itself.",
	}[a.Cause]
	fact := a.who() + " was evicted"
	if a.Cause == Rejected {
		fact = a.who() + " was refused by the node's kubelet"
		if a.Role == spark.Driver {
			remedy = "It never ran. Submit the application again."
		}
	}
	return join(fact+a.quote()+".", howMany, remedy)
}

func (a adviser) kubernetes(setting string) string {
	return "spark.kubernetes." + string(a.role) + "." + setting
}

func (a adviser) volumeSetting(kind, option string) string {
	return fmt.Sprintf(" (%s.NAME.options.%s)", a.kubernetes("volumes."+kind), option)
}

func (a adviser) onVolume() string {
	return fmt.Sprintf("Put Spark's local files on a volume of their own: %s.spark-local-dir-1.options.claimName=OnDemand, with mount.path.", a.kubernetes("volumes.persistentVolumeClaim"))
}

func (a adviser) sidecar(howMany string) string {
	who := "C" + a.String()[1:]
	if a.Cause == ChildOOMKilled {
		return join("A child process of "+lower(who)+" was killed by the kernel at that container's memory limit.", howMany, "Spark's container is another one; raise the limit of that one.")
	}
	return join(who+" was killed by the kernel: over its own memory limit.", howMany, "Spark's container is another one; raise the limit of that one.")
}

func join(sentences ...string) string { return strings.Join(sentences, " ") }
