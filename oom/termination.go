package oom

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Termination is one end of one container: who, when, of which cause.
type Termination struct {
	// Set and Number say which termination this is, for ever: it is the one
	// that [Record.Counted] holds as Number in Set. For the executors of an
	// application the number is Spark's, for containers that are restarted how
	// often they had been.
	Set    string `json:"set"`
	Number int64  `json:"number"`

	Role spark.Role `json:"role"`
	// Container is "" for Spark's own, else the name of a sidecar or init
	// container.
	Container string      `json:"container,omitempty"`
	Pod       string      `json:"pod"`
	Cause     Cause       `json:"cause"`
	ExitCode  *int32      `json:"exitCode,omitempty"` // nil for what never ran
	At        metav1.Time `json:"at"`                 // as the kubelet says it
	// Said is what the kubelet, the JVM or the pod's condition says, on one
	// line and shortened. A stranger may have written it.
	Said string `json:"said,omitempty"`
	// LimitReached says that the kernel has killed a process of the container
	// besides.
	LimitReached bool `json:"limitReached,omitempty"`

	// Memory of Spark's container in MiB; 0 is not known. Estimated is about
	// the heap, see [spark.Memory].
	LimitMiB   int64  `json:"limitMiB,omitempty"`
	RequestMiB int64  `json:"requestMiB,omitempty"` // only where it is not the limit
	HeapMiB    int64  `json:"heapMiB,omitempty"`
	Estimated  bool   `json:"heapEstimated,omitempty"`
	Cores      int    `json:"cores,omitempty"`   // of an executor
	Profile    string `json:"profile,omitempty"` // resource profile of an executor, where it is not Spark's default
}

// Evidence of how a pod's containers ended.
type Evidence struct {
	*corev1.Pod
	// Killing says that the kubelet told of stopping Spark's container (an Event
	// with the reason Killing) while nobody had deleted the pod.
	Killing bool
}

// Terminations of a pod that are deaths, in the order of its containers. It
// looks at the last run of each and at the one before, which is all that
// Kubernetes keeps.
func Terminations(evidence Evidence) []Termination {
	pod, err := spark.PodOf(evidence.Pod)
	if err != nil {
		return nil
	}
	var all []Termination
	add := func(e ending, restarts int32) {
		e.Pod, e.killing = pod, evidence.Killing
		if cause := e.cause(); cause != none {
			all = append(all, e.termination(cause, restarts))
		}
	}
	found := false
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range statuses {
			name := s.Name
			if name == pod.Container().Name {
				name, found = "", s.State.Terminated != nil || pod.Status.Phase != corev1.PodFailed
			}
			if s.LastTerminationState.Terminated != nil {
				add(ending{container: name, terminated: s.LastTerminationState.Terminated, earlier: true}, lastRun(&s))
			}
			if s.State.Terminated != nil {
				add(ending{container: name, terminated: s.State.Terminated}, s.RestartCount)
			}
		}
	}
	if !found && pod.Status.Phase == corev1.PodFailed {
		add(ending{}, 0)
	}
	return all
}

// lastRun is the number of the run that lastState is about: the one before, or
// the newest itself while that waits to be restarted (CrashLoopBackOff), when
// the kubelet has copied state to lastState and counted nothing yet.
func lastRun(s *corev1.ContainerStatus) int32 {
	if last := s.LastTerminationState.Terminated; last.ContainerID != "" && last.ContainerID == s.ContainerID {
		return s.RestartCount
	}
	return max(s.RestartCount-1, 0)
}

func (e *ending) termination(cause Cause, restarts int32) Termination {
	t := Termination{
		Role: e.Role, Container: e.container, Pod: e.Name, Cause: cause,
		At: e.at(), Said: e.said(cause),
		LimitReached: cause == HeapOOM && e.reason("OOMKilled"),
	}
	t.Set, t.Number = e.identity(restarts)
	if e.terminated != nil {
		t.ExitCode = &e.terminated.ExitCode
	}
	if e.sparks() {
		e.describeMemory(&t)
	}
	return t
}

// identity of a termination. Spark never uses an executor's number twice; only
// the executors that it starts itself know theirs for sure, and run once.
func (e *ending) identity(restarts int32) (set string, number int64) {
	id, ok := e.ExecutorID()
	_, direct := e.Driver()
	switch {
	case e.Role == spark.Driver:
		set, number = "driver", int64(restarts)
	case ok && restarts == 0 && (direct || e.Spec.RestartPolicy == corev1.RestartPolicyNever):
		set, number = "executors", id
	default:
		uid, _, _ := strings.Cut(string(e.UID), "-")
		set, number = "pod "+uid, int64(restarts)
	}
	if e.container != "" {
		set += "/" + e.container
	}
	return set, number
}

func (e *ending) describeMemory(t *Termination) {
	m := e.Memory()
	request := e.Container().Resources.Requests[corev1.ResourceMemory]
	t.LimitMiB, t.HeapMiB, t.Estimated = m.Limit>>20, m.Heap>>20, m.Estimated
	if request.Value() != m.Limit {
		t.RequestMiB = request.Value() >> 20
	}
	if e.Role == spark.Executor {
		t.Cores = e.Cores()
		if profile := e.ResourceProfile(); profile != "0" {
			t.Profile = oneLine(profile, 10)
		}
	}
}

// at is when it ended. A pod that never ran has only its conditions.
func (e *ending) at() metav1.Time {
	if e.terminated != nil && !e.terminated.FinishedAt.IsZero() {
		return e.terminated.FinishedAt
	}
	at := e.CreationTimestamp
	for _, c := range e.Status.Conditions {
		if c.LastTransitionTime.After(at.Time) {
			at = c.LastTransitionTime
		}
	}
	return at
}

const maxSaid = 200 // bytes of what others say

func (e *ending) said(cause Cause) string {
	said := ""
	switch cause {
	case HeapOOM, JavaOOM:
		said = e.outOfMemory()
	case Disrupted:
		said = e.Status.Reason + " " + e.Status.Message
		for _, c := range e.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && e.Status.Reason == "" {
				said = c.Reason + " " + c.Message
			}
		}
		if strings.TrimSpace(said) == "" && e.lost() {
			said = "its node or the kubelet lost it: " + e.terminated.Reason
		}
	case OOMKilled, ChildOOMKilled, Killed, Hung:
	default:
		said = e.Status.Message
	}
	return oneLine(said, maxSaid)
}

// oneLine makes a stranger's text fit to be quoted: printable, on one line, not
// longer than so many bytes.
func oneLine(text string, length int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }), " ")
	text = strings.ToValidUTF8(strings.NewReplacer(`"`, "'", `\`, "/").Replace(text), "")
	if len(text) <= length {
		return text
	}
	return strings.ToValidUTF8(text[:length-3], "") + "..."
}

// IsSparks tells whether Spark's own container ended.
func (t *Termination) IsSparks() bool { return t.Container == "" }

// Suspected tells whether memory may have been the cause, without proof.
func (t *Termination) Suspected() bool {
	return t.Cause == Killed && t.ExitCode != nil && *t.ExitCode == exitSIGKILL
}

// SetHeap replaces the estimate of a driver's heap, in bytes, by what its
// configuration says; one that contradicts the limit is ignored.
func (t *Termination) SetHeap(heap int64) {
	if mib := heap >> 20; mib > 0 && (t.LimitMiB == 0 || mib <= t.LimitMiB) {
		t.HeapMiB, t.Estimated = mib, false
	}
}

// String names the termination: "executor 7", "container proxy of driver".
func (t *Termination) String() string {
	who := string(t.Role)
	if t.Role == spark.Executor {
		who += " " + t.Pod
		if strings.HasPrefix(t.Set, "executors") {
			who = fmt.Sprintf("executor %d", t.Number)
		}
	}
	if t.Container != "" {
		who = "container " + t.Container + " of " + who
	}
	return who
}

// compare sorts the termination that ended later first, and those of the same second
// by what never changes.
func (t *Termination) compare(other *Termination) int {
	if d := t.At.Truncate(time.Second).Compare(other.At.Truncate(time.Second)); d != 0 {
		return -d
	}
	if d := strings.Compare(t.Set, other.Set); d != 0 {
		return d
	}
	return int(max(-1, min(1, other.Number-t.Number)))
}
