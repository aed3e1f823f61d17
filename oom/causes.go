package oom

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Cause is why a container ended, in one word.
type Cause string

// The causes. Of executors only those before Killed are recorded, and Killed
// itself: whatever else ends an executor, its driver knows about and tells.
const (
	Rejected                Cause = "Rejected"                // refused by the kubelet; never ran
	EvictedMemory           Cause = "EvictedMemory"           // the node ran out of memory
	EvictedStorage          Cause = "EvictedStorage"          // the node ran out of disk
	EvictedInodes           Cause = "EvictedInodes"           // the node ran out of inodes
	EvictedPIDs             Cause = "EvictedPIDs"             // the node ran out of process ids
	EvictedEmptyDir         Cause = "EvictedEmptyDir"         // a volume grew over its sizeLimit
	EvictedPodStorage       Cause = "EvictedPodStorage"       // the pod wrote more than its ephemeral-storage limits
	EvictedContainerStorage Cause = "EvictedContainerStorage" // a container wrote more than its ephemeral-storage limit
	Evicted                 Cause = "Evicted"                 // for what the kubelet says
	OOMKilled               Cause = "OOMKilled"               // the container was over its memory limit
	HeapOOM                 Cause = "HeapOOM"                 // the JVM ran out of heap
	JavaOOM                 Cause = "JavaOOM"                 // the JVM ran out of something that is no heap
	ChildOOMKilled          Cause = "ChildOOMKilled"          // a child process was killed for memory; the container went on
	Hung                    Cause = "Hung"                    // ended by its liveness or startup probe
	Killed                  Cause = "Killed"                  // by a signal that nobody explains; with 137 suspected to be memory
	Disrupted               Cause = "Disrupted"               // a driver ended by the platform: preemption, node shutdown, deadline
	Failed                  Cause = "Failed"                  // a driver that ended by itself with an error
)

// IsOOM tells whether memory was proven to be what it lacked. Killed never is.
func (c Cause) IsOOM() bool {
	return slices.Contains([]Cause{OOMKilled, HeapOOM, JavaOOM, ChildOOMKilled}, c)
}

// exits tells whether only a container that ran can end of the cause.
func (c Cause) exits() bool {
	return c.IsOOM() || c == Hung || c == Killed
}

// provisional causes are corrected when the kubelet, or Spark, says more.
func (c Cause) provisional() bool { return c == Killed || c == Failed }

// none ends the search: what ended is no death to record.
const none Cause = ""

// Exit codes. 128 and more is a signal.
const (
	exitHeap    = 52 // SparkExitCode.OOM
	exitSIGKILL = 128 + 9
	exitSIGTERM = 128 + 15
	exitSignals = 128
	exitMax     = 128 + 64
)

// causes is the table, most specific first: the first row that holds decides.
// Sources: kubernetes/pkg/kubelet/eviction/helpers.go for the words of
// evictions, kubelet.go (rejectPod) for those of rejections, containerd's
// internal/cri/server/events.go for OOMKilled, Spark's util/SparkExitCode.scala.
var causes = []struct {
	cause Cause
	holds func(*ending) bool
}{
	// A container that ended well, whatever became of its pod afterwards.
	{none, func(e *ending) bool { return e.code() == 0 && !e.reason("OOMKilled") }},
	// The kubelet gives these reasons to pods that it never started: "Pod was
	// rejected: ...", since 1.29; "The node had condition: ..." before it.
	{Rejected, func(e *ending) bool {
		return e.pod("") && e.terminated == nil && (e.says("Pod was rejected") || e.pod("Evicted") && e.says("The node had condition"))
	}},
	{Rejected, func(e *ending) bool {
		return e.terminated == nil && e.pod("") && (strings.HasPrefix(e.Status.Reason, "OutOf") || e.pod("UnexpectedAdmissionError"))
	}},
	// "The node was low on resource: %v. "
	{EvictedMemory, lowOn("memory")},
	{EvictedStorage, lowOn("ephemeral-storage")},
	{EvictedInodes, lowOn("inodes")},
	{EvictedPIDs, lowOn("pids")},
	// "Usage of EmptyDir volume %q exceeds the limit %q. "
	{EvictedEmptyDir, evicted("Usage of EmptyDir volume")},
	// "Pod ephemeral local storage usage exceeds the total limit of containers %s. "
	{EvictedPodStorage, evicted("Pod ephemeral local storage usage")},
	// "Container %s exceeded its local ephemeral storage limit %q. "
	{EvictedContainerStorage, evicted("exceeded its local ephemeral storage limit")},
	{Evicted, evicted("")},
	// The runtime says OOMKilled once the kernel has killed any process of the
	// container, and goes on saying so: only 137 means that the container's own
	// process was the one; unless that was killed when the grace of a deletion
	// was over.
	{OOMKilled, func(e *ending) bool { return e.reason("OOMKilled") && e.code() == exitSIGKILL && !e.outstayed() }},
	// Before the words of the JVM, because a program can survive an
	// OutOfMemoryError, log it, and end otherwise.
	{HeapOOM, func(e *ending) bool { return e.outOfMemory() != "" && !e.beyondHeap() }},
	{JavaOOM, func(e *ending) bool { return e.outOfMemory() != "" }},
	// Spark's own exit code, and nobody else's: of an executor, whose JVM runs
	// no code that could exit with it by chance. 3 (ExitOnOutOfMemoryError) and
	// 134 (Crash...) are also used by others and prove nothing.
	{HeapOOM, func(e *ending) bool { return e.sparks() && e.Role == spark.Executor && e.code() == exitHeap }},
	{ChildOOMKilled, func(e *ending) bool { return e.reason("OOMKilled") }},
	// A sidecar's or an init container's other ends are none of ours.
	{none, func(e *ending) bool { return !e.sparks() }},
	{Disrupted, func(e *ending) bool { return e.Role == spark.Driver && (e.disrupted() || e.lost() && !e.deleted()) }},
	{none, func(e *ending) bool { return e.disrupted() || e.lost() || e.deleted() }},
	// The kubelet leaves no sign of it in the status (exit 143 or 137, reason
	// Error): the probe stands in the pod, and its Killing event says the rest.
	{Hung, func(e *ending) bool {
		return e.killing && e.probed() && (e.code() == exitSIGTERM || e.code() == exitSIGKILL)
	}},
	{Killed, func(e *ending) bool { return e.code() == exitSIGKILL || e.Role == spark.Driver && e.signalled() }},
	// Spark's executors end with 143 and 1 when their driver is done with them.
	{none, func(e *ending) bool { return e.Role == spark.Executor }},
	{Failed, func(e *ending) bool { return e.terminated != nil || e.Status.Phase == corev1.PodFailed }},
}

// ending is a container that ended, with its pod.
type ending struct {
	spark.Pod
	container  string                           // "" is Spark's own
	terminated *corev1.ContainerStateTerminated // nil where the pod failed and the container never ran
	earlier    bool                             // of a run before the last one
	killing    bool                             // the kubelet told of stopping it by itself
}

func (e *ending) cause() Cause {
	for _, row := range causes {
		if row.holds(e) {
			return row.cause
		}
	}
	return none
}

func (e *ending) sparks() bool { return e.container == "" }

// code is -1 for a container that never ran.
func (e *ending) code() int32 {
	if e.terminated == nil {
		return -1
	}
	return e.terminated.ExitCode
}

func (e *ending) signalled() bool { return e.code() > exitSignals && e.code() < exitMax }

func (e *ending) reason(reason string) bool {
	return e.terminated != nil && e.terminated.Reason == reason
}

// pod tells whether the pod itself has the reason, or with "" any; it is then
// what ended its last run of Spark's container.
func (e *ending) pod(reason string) bool {
	return e.sparks() && !e.earlier && e.Status.Reason != "" && (reason == "" || e.Status.Reason == reason)
}

func (e *ending) says(words string) bool { return strings.Contains(e.Status.Message, words) }

func evicted(words string) func(*ending) bool {
	return func(e *ending) bool { return e.pod("Evicted") && e.says(words) }
}

func lowOn(resource string) func(*ending) bool {
	return evicted("The node was low on resource: " + resource + ".")
}

// disrupted: preempted, drained, tainted, on a node that shuts down or is lost.
// Its containers end with 143 or 137 then.
func (e *ending) disrupted() bool {
	return !e.earlier && (slices.Contains([]string{"Preempting", "Terminated", "NodeShutdown", "Shutdown", "NodeLost", "DeadlineExceeded", "NodeAffinity"}, e.Status.Reason) ||
		slices.ContainsFunc(e.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
		}))
}

// lost: the runtime or the kubelet no longer knows how it ended.
func (e *ending) lost() bool { return e.reason("ContainerStatusUnknown") || e.reason("Unknown") }

// deleted: it ended because its pod was deleted. Spark deletes executors that
// have died, so the time decides where it can: the deletion was asked for a
// grace period before deletionTimestamp. The last deletion, the kubelet's own,
// has no grace and hides that.
func (e *ending) deleted() bool {
	if e.DeletionTimestamp == nil || e.earlier {
		return false
	}
	grace := e.DeletionGracePeriodSeconds
	if e.terminated == nil || grace == nil || *grace == 0 {
		return true
	}
	asked := e.DeletionTimestamp.Unix() - *grace
	return e.terminated.FinishedAt.Unix() >= asked
}

// outstayed: it ended when the grace of its pod's deletion was over, which
// deletionTimestamp says.
func (e *ending) outstayed() bool {
	grace := e.DeletionGracePeriodSeconds
	return !e.earlier && e.DeletionTimestamp != nil && grace != nil && *grace > 0 &&
		e.terminated.FinishedAt.Unix() >= e.DeletionTimestamp.Unix()
}

func (e *ending) probed() bool {
	return e.Container().LivenessProbe != nil || e.Container().StartupProbe != nil
}

// ExitException is where Spark writes why a driver's program failed, with
// spark.kubernetes.driver.annotateExitException, since Spark 4.1.
const ExitException = "spark.exit-exception"

// outOfMemoryError is how the JVM names every want of memory.
const outOfMemoryError = "java.lang.OutOfMemoryError"

// outOfMemory is what the JVM said it ran out of, as it says it; "" where it
// did not end of that. A termination message is the end of a log, so a healthy
// end (0, 143) with these words in it is none.
func (e *ending) outOfMemory() string {
	if !e.sparks() || e.code() <= 0 || e.signalled() && e.code() != 134 {
		return ""
	}
	line := JVMSays(e.Role, e.terminated.Message)
	if line == "" && !e.earlier {
		line = JVMSays(e.Role, e.Annotations[ExitException])
	}
	return line
}

// executors speak where a driver tells how they failed: "Job aborted due to
// stage failure: ... Lost task 0.3 in stage 0.0 (TID 3) (10.0.0.7 executor 4): ".
var executors = regexp.MustCompile(`Lost task|stage failure|Job aborted|Driver stacktrace|executor \S+\):|executor\.Executor\$TaskRunner`)

// JVMSays is the line of a text in which the JVM of a pod of this role says that
// it ran out of memory, "" where it does not say that of itself.
func JVMSays(role spark.Role, text string) string {
	i := strings.LastIndex(text, outOfMemoryError)
	if i < 0 {
		return ""
	}
	const last = "Terminating due to " // -XX:+ExitOnOutOfMemoryError's, and Crash...'s
	if j := strings.LastIndex(text, last+outOfMemoryError); j >= 0 {
		i = j + len(last)
	} else if role == spark.Driver && (executors.MatchString(text[:i]) || strings.Contains(text[i:], "executor.Executor$TaskRunner")) {
		return ""
	}
	line, _, _ := strings.Cut(text[i:], "\n")
	return line
}

// beyondHeap: what no larger heap would cure. HotSpot's words.
func (e *ending) beyondHeap() bool {
	_, found := javaLimitOf(e.outOfMemory())
	return found
}
