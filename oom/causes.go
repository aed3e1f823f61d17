package oom

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Cause is why a container ended, in one word.
type Cause string

// The causes. For executors only those up to Killed are recorded: the driver knows how
// else an executor ends. See [Ended].
const (
	Rejected                Cause = "Rejected"                // refused by the kubelet; never ran
	EvictedMemory           Cause = "EvictedMemory"           // the node ran out of memory
	EvictedStorage          Cause = "EvictedStorage"          // the node ran out of disk
	EvictedInodes           Cause = "EvictedInodes"           // the node ran out of inodes
	EvictedPIDs             Cause = "EvictedPIDs"             // the node ran out of process IDs
	EvictedEmptyDir         Cause = "EvictedEmptyDir"         // a volume grew over its sizeLimit
	EvictedPodStorage       Cause = "EvictedPodStorage"       // the pod wrote more than its ephemeral-storage limits
	EvictedContainerStorage Cause = "EvictedContainerStorage" // a container wrote more than its ephemeral-storage limit
	Evicted                 Cause = "Evicted"                 // for the reason that the kubelet gives
	OOMKilled               Cause = "OOMKilled"               // the container was over its memory limit
	HeapOOM                 Cause = "HeapOOM"                 // the JVM ran out of heap
	JavaOOM                 Cause = "JavaOOM"                 // the JVM ran out of something other than heap
	ChildOOMKilled          Cause = "ChildOOMKilled"          // a child process was killed because of memory; the container kept running
	Crashed                 Cause = "Crashed"                 // the JVM, or the program in a driver, crashed; for executors only if the JVM says so
	Hung                    Cause = "Hung"                    // ended by its liveness or startup probe
	Killed                  Cause = "Killed"                  // by a signal without an explanation; it may be because of memory
	Disrupted               Cause = "Disrupted"               // a driver ended by the platform: preemption, node shutdown, deadline
	Failed                  Cause = "Failed"                  // a driver that ended by itself with an error
)

// IsOOM reports whether a lack of memory is proven. It is not for Killed.
func (c Cause) IsOOM() bool {
	return slices.Contains([]Cause{OOMKilled, HeapOOM, JavaOOM, ChildOOMKilled}, c)
}

// exits reports whether only a container that ran can end because of this.
func (c Cause) exits() bool {
	return c.IsOOM() || c == Crashed || c == Hung || c == Killed
}

// provisional reports whether the cause is corrected when the kubelet, or Spark, says
// more.
func (c Cause) provisional() bool { return c == Killed || c == Failed || c == ended }

// none ends the search: the end is not a death to record.
const none Cause = ""

// ended is the cause of an executor that ended by itself with an error. It is counted,
// and is not a death.
const ended Cause = "Ended"

// Exit codes. 128 and more is a signal.
const (
	exitOnOutOfMemory   = 3  // -XX:+ExitOnOutOfMemoryError; others use it too
	exitTooManyFailures = 11 // SparkExitCode.EXCEED_MAX_EXECUTOR_FAILURES
	exitHeap            = 52 // SparkExitCode.OOM
	exitSignals         = 128
	exitSIGABRT         = 128 + 6
	exitSIGKILL         = 128 + 9
	exitSIGTERM         = 128 + 15
	exitMax             = 128 + 64
)

// crashes are the exit codes of a process that crashed, with their signals.
var crashes = map[int32]string{132: "SIGILL", exitSIGABRT: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 139: "SIGSEGV"}

// causes is the table of causes, the most specific first: the first row that holds
// decides. The texts come from: kubernetes/pkg/kubelet/eviction/helpers.go for
// evictions, kubelet.go (rejectPod) for rejections, containerd's
// internal/cri/server/events.go for OOMKilled, Spark's util/SparkExitCode.scala.
var causes = []struct {
	cause Cause
	holds func(*ending) bool
}{
	// A container that ended well, whatever happened to its pod afterwards.
	{none, func(e *ending) bool { return e.code() == 0 && (!e.reason("OOMKilled") || e.stopped()) }},
	// The kubelet gives these reasons to pods that it never started: "Pod was
	// rejected: ...", since 1.29; "The node had condition: ..." before it.
	{Rejected, func(e *ending) bool {
		return e.pod("") && e.terminated == nil && (e.podSays("Pod was rejected") || e.pod("Evicted") && e.podSays("The node had condition"))
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
	// A JVM that ends itself when it runs out of memory says so. It ends with the exit
	// code that it is set to: 3, 134, 137 or 143.
	{HeapOOM, func(e *ending) bool { return e.endedItself() && isHeap(e.words().OutOfMemory) }},
	{JavaOOM, func(e *ending) bool { return e.endedItself() }},
	// The runtime says OOMKilled from when the kernel has killed any process of the
	// container. Kubelets also say it of containers that they stopped
	// (kubernetes#120168, kubernetes#140716). Only 137 means that the kernel killed the
	// container's own process, unless the platform did.
	{OOMKilled, func(e *ending) bool { return e.reason("OOMKilled") && e.code() == exitSIGKILL && !e.stopped() }},
	// Checked after OOMKilled, because a program can survive an OutOfMemoryError, log
	// it, and end in another way.
	{HeapOOM, func(e *ending) bool { return isHeap(e.outOfMemory()) }},
	{JavaOOM, func(e *ending) bool { return e.outOfMemory() != "" }},
	// Exit codes that mean one thing in an executor, because its JVM runs no code that
	// could exit with them by chance: Spark's own, and that of the JVM if it is set to
	// exit with it.
	{HeapOOM, func(e *ending) bool {
		return e.sparks() && e.Role == spark.Executor && (e.code() == exitHeap || e.onOutOfMemory() == exitOption)
	}},
	{ChildOOMKilled, func(e *ending) bool { return e.reason("OOMKilled") && !e.stopped() }},
	// Other ends of a sidecar or an init container are not recorded.
	{none, func(e *ending) bool { return !e.sparks() }},
	{Disrupted, func(e *ending) bool { return e.Role == spark.Driver && (e.disrupted() || e.lost() && !e.deleted()) }},
	{none, func(e *ending) bool { return e.disrupted() || e.lost() || e.deleted() }},
	// HotSpot writes its report before it aborts.
	{Crashed, func(e *ending) bool {
		return e.words().Crash != "" && e.code() != exitSIGTERM && e.code() != exitSIGKILL
	}},
	// The status does not show it (exit 143 or 137, reason Error). The pod has the
	// probe, and the kubelet's Event Killing says the rest.
	{Hung, func(e *ending) bool {
		return e.killing && e.probed() && (e.code() == exitSIGTERM || e.code() == exitSIGKILL)
	}},
	// An executor that its driver asked to end.
	{none, func(e *ending) bool { return e.words().Done && e.code() == exitSIGTERM }},
	// A JVM that is set to end itself when it runs out of memory, and ended with that
	// code. An executor that was not deleted does not end with 143 otherwise.
	{Killed, func(e *ending) bool { return e.code() == exitSIGKILL || e.onOutOfMemory() != "" && e.signalled() }},
	{Crashed, func(e *ending) bool { return e.Role == spark.Driver && crashes[e.code()] != "" }},
	{Killed, func(e *ending) bool { return e.Role == spark.Driver && e.signalled() }},
	// Spark's executors end with 143 and 1 when their driver is done with them.
	{none, func(e *ending) bool { return e.Role == spark.Executor }},
	{Failed, func(e *ending) bool { return e.terminated != nil || e.Status.Phase == corev1.PodFailed }},
}

// ending is a container that ended, with its pod.
type ending struct {
	spark.Pod
	container  string                           // "" for Spark's own
	terminated *corev1.ContainerStateTerminated // nil if the pod failed and the container never ran
	earlier    bool                             // a run before the last one
	killing    bool                             // the kubelet reported that it stopped the container by itself
	says       *Words                           // what its termination message says; nil until it is read
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

// code returns the exit code, or -1 for a container that never ran.
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

// pod reports whether the pod itself has the reason, or with "" any reason. This reason
// is what ended the last run of Spark's container.
func (e *ending) pod(reason string) bool {
	return e.sparks() && !e.earlier && !e.over() && e.Status.Reason != "" && (reason == "" || e.Status.Reason == reason)
}

func (e *ending) podSays(words string) bool { return strings.Contains(e.Status.Message, words) }

func evicted(words string) func(*ending) bool {
	return func(e *ending) bool { return e.pod("Evicted") && e.podSays(words) }
}

func lowOn(resource string) func(*ending) bool {
	return evicted("The node was low on resource: " + resource + ".")
}

// platformReasons are the reasons of a pod that was preempted, or is on a node that
// shuts down or is lost. Its containers end with 143 or 137.
var platformReasons = []string{"Preempting", "Terminated", "NodeShutdown", "Shutdown", "NodeLost", "DeadlineExceeded", "NodeAffinity"}

// disrupted reports whether the platform ended the pod, and the container with it.
func (e *ending) disrupted() bool {
	return !e.earlier && !e.over() && (slices.Contains(platformReasons, e.Status.Reason) || e.disruption() != nil)
}

// disruption returns the pod's condition DisruptionTarget, or nil if it is not true.
func (e *ending) disruption() *corev1.PodCondition {
	for i := range e.Status.Conditions {
		if c := &e.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// kubeletLag is how much later than the last container's end a kubelet writes that it
// ends a pod. It waits until all containers have ended (status_manager.go,
// mergePodStatus).
const kubeletLag = 10 * time.Second

// over reports whether the container had ended by itself before the platform asked the
// pod to end, while another container kept the pod alive.
func (e *ending) over() bool {
	c := e.disruption()
	if c == nil || e.terminated == nil || e.terminated.FinishedAt.IsZero() || c.LastTransitionTime.IsZero() {
		return false
	}
	asked := c.LastTransitionTime.Time
	switch {
	case c.Reason != corev1.PodReasonTerminationByKubelet: // requested by the API, right before
		asked = asked.Add(-clocks)
	case e.code() == exitSIGKILL: // the kubelet kills what does not end within the grace period
		asked = asked.Add(-kubeletLag)
	default:
		asked = asked.Add(-kubeletLag - e.grace())
	}
	return e.terminated.FinishedAt.Time.Before(asked)
}

// clocks bounds how much the clocks of the kubelet and the API server differ.
const clocks = 2 * time.Second

// grace returns how long the pod's containers may take to end.
func (e *ending) grace() time.Duration {
	if s := e.DeletionGracePeriodSeconds; s != nil && *s > 0 {
		return time.Duration(*s) * time.Second
	}
	if s := e.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// stopped reports whether the container ended because its pod was deleted, drained or
// shut down. If it ended with 137 before its grace period was over, something else
// killed it.
func (e *ending) stopped() bool {
	if e.earlier || e.terminated == nil {
		return false
	}
	ended, killed := e.terminated.FinishedAt.Time, e.code() == exitSIGKILL
	if c := e.disruption(); e.disrupted() && (c == nil || c.Reason == corev1.PodReasonTerminationByKubelet) {
		return true // how long the kubelet waited is not known
	} else if e.disrupted() {
		return !killed || e.DeletionTimestamp != nil && !ended.Before(c.LastTransitionTime.Add(e.grace()))
	}
	// An executor that its program ends, ends with 0. It may be deleted afterwards.
	if e.DeletionTimestamp == nil || e.code() == 0 && e.sparks() {
		return false
	}
	grace := e.DeletionGracePeriodSeconds
	if grace == nil || *grace == 0 { // the kubelet's own deletion, which hides the time of the first one
		return !killed
	}
	if killed {
		return !ended.Before(e.DeletionTimestamp.Time)
	}
	return !ended.Before(e.DeletionTimestamp.Add(-time.Duration(*grace)*time.Second - clocks))
}

// lost reports whether the runtime and the kubelet do not know any more how it ended.
func (e *ending) lost() bool { return e.reason("ContainerStatusUnknown") || e.reason("Unknown") }

// deleted reports whether it ended because its pod was deleted. Spark deletes dead
// executors, so the time decides if it can: the deletion was requested a grace period
// before deletionTimestamp. The last deletion, the kubelet's own, has no grace period
// and hides that.
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

func (e *ending) probed() bool {
	return e.Container().LivenessProbe != nil || e.Container().StartupProbe != nil
}

// unstarted reports whether the runtime could not start the container's command.
func (e *ending) unstarted() bool {
	return slices.ContainsFunc([]string{"StartError", "ContainerCannotRun"}, e.reason)
}

// ExitException is the annotation in which Spark writes why a driver's program failed,
// with spark.kubernetes.driver.annotateExitException, since Spark 4.1.
const ExitException = "spark.exit-exception"

// words returns what the container's termination message says. If that says nothing
// about memory, it uses what Spark says about a driver's program.
func (e *ending) words() Words {
	if e.says == nil {
		e.says = &Words{}
		if e.sparks() && e.code() > 0 {
			*e.says = WordsOf(e.Role, e.terminated.Message)
			if e.says.OutOfMemory == "" && !e.earlier {
				e.says.OutOfMemory = WordsOf(e.Role, e.Annotations[ExitException]).OutOfMemory
			}
		}
	}
	return *e.says
}

// endedItself reports whether the JVM ended itself because it ran out of memory. The
// command of -XX:OnOutOfMemoryError may also be a dump, which the JVM survives.
func (e *ending) endedItself() bool {
	w := e.words()
	return w.Ended || killedWith(w.Command) != ""
}

// outOfMemory returns the JVM's words about what it ran out of, or "" if it did not end
// because of that. A termination message is the end of a log. So an end by a signal
// with these words in the message does not count, unless nothing else can have sent the
// signal.
func (e *ending) outOfMemory() string {
	w := e.words()
	if e.endedItself() || !e.signalled() || w.Command != "" && e.code() == exitSIGKILL && !e.disrupted() && !e.deleted() {
		return w.OutOfMemory
	}
	return ""
}

// onOutOfMemory returns the option by which the JVM ends itself with this exit code
// when it runs out of memory, as far as its environment shows. It returns "" if there
// is none.
func (e *ending) onOutOfMemory() string {
	if !e.sparks() || e.code() <= 0 {
		return ""
	}
	options := e.JavaOptions()
	for _, name := range JavaOptionsEnv {
		value, _ := e.Env(name)
		options = append(options, value)
	}
	for _, text := range options {
		if option := endsWith(text, e.code()); option != "" {
			return option
		}
	}
	return ""
}

// JavaOptionsEnv are the environment variables from which every JVM takes options.
var JavaOptionsEnv = []string{"JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"}
