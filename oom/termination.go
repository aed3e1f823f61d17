package oom

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Termination is one end of one container: which, when, and of which cause.
type Termination struct {
	// Set and Number identify the termination: [Record.Counted] has it as Number in
	// Set. For the executors of an application the number is Spark's. For a container
	// that is restarted it is the number of its earlier restarts.
	Set    string `json:"set"`
	Number int64  `json:"number"`

	Role spark.Role `json:"role"`
	// Container is "" for Spark's own, or else the name of a sidecar or init container.
	Container string      `json:"container,omitempty"`
	Pod       string      `json:"pod"`
	Cause     Cause       `json:"cause"`
	ExitCode  *int32      `json:"exitCode,omitempty"` // nil if it never ran
	At        metav1.Time `json:"at"`                 // from the kubelet
	// Said is what the kubelet, the JVM or the pod's condition says, on one line and
	// shortened. Anyone may have written it.
	Said string `json:"said,omitempty"`
	// LimitReached is true if the kernel has also killed a process of the container.
	LimitReached bool `json:"limitReached,omitempty"`
	// OnOutOfMemory is the option, as far as the pod shows it, by which the JVM ends
	// itself with ExitCode when it runs out of memory. Without words of the JVM (Said)
	// it is only a suspicion: with Killed, the heap is then more likely than the kernel.
	OnOutOfMemory string `json:"onOutOfMemory,omitempty"`

	// LimitMiB and the next fields are the memory of Spark's container in MiB; 0 if it
	// is not known. Estimated is about the heap, see [spark.Memory].
	LimitMiB   int64  `json:"limitMiB,omitempty"`
	RequestMiB int64  `json:"requestMiB,omitempty"` // only if it differs from the limit
	HeapMiB    int64  `json:"heapMiB,omitempty"`
	Estimated  bool   `json:"heapEstimated,omitempty"`
	Cores      int    `json:"cores,omitempty"`   // of an executor
	Profile    string `json:"profile,omitempty"` // resource profile of an executor, if it is not Spark's default
	// LocalDirsInMemory is true if Spark keeps its local files (shuffle, spill, cached
	// blocks) in memory, so they count toward LimitMiB in addition to the heap. That
	// is so with spark.kubernetes.local.dirs.tmpfs=true, or a volume spark-local-dir-N
	// of medium Memory. Putting them on disk helps.
	LocalDirsInMemory bool `json:"localDirsInMemory,omitempty"`
	// Probed is true if the container has a probe that could have ended it, and its
	// cause is [Killed].
	Probed bool `json:"probed,omitempty"`
	// LimitByOthers is true if Spark did not make the pod, so its settings do not decide
	// the container's limit.
	LimitByOthers bool `json:"limitByOthers,omitempty"`
	// LocalDirsOnClaim is true if Spark's local files already have a claimed volume.
	LocalDirsOnClaim bool `json:"localDirsOnClaim,omitempty"`
	// ProbeFailure is the probe that ended the container, if its cause is [Hung].
	ProbeFailure *ProbeFailure `json:"probeFailure,omitempty"`

	// Settings are those in force, if the driver's UI showed them. Peaks are what an
	// executor measured; nil if its driver was not asked.
	Settings *Settings `json:"settings,omitempty"`
	Peaks    *Peaks    `json:"peaks,omitempty"`
	// Remedied is how an executor was changed when it was created, because earlier ones
	// died of memory. Then LimitMiB, HeapMiB and Cores are not what Spark's settings say.
	Remedied *annotations.RemedyStamp `json:"remedied,omitempty"`

	started bool          // its start is known
	lived   time.Duration // from its start to its end
	uid     string        // beginning of the pod's UID, because two pods may claim one executor's number
}

// Evidence is what is known about how a pod's containers ended.
type Evidence struct {
	*corev1.Pod
	// Killing is true if the kubelet reported that it stopped Spark's container (an Event
	// with the reason Killing) although the pod was not deleted.
	Killing bool
}

// Terminations returns the deaths of a pod, in the order of its containers. It looks at
// the last run of each container and at the one before, which is all that Kubernetes
// keeps.
func Terminations(evidence Evidence) []Termination {
	return endings(evidence, func(e *ending) Cause { return e.cause() })
}

// Ended returns the ends of an executor that are neither deaths nor healthy: it ended
// by itself with an error. A record counts them by exit code, so that a message can say
// why a driver gave up.
func Ended(evidence Evidence) []Termination {
	return endings(evidence, func(e *ending) Cause {
		healthy := e.code() <= 0 || e.code() == exitSIGTERM || e.lost() || e.stopped() || e.disrupted() || e.deleted()
		if !e.sparks() || e.Role != spark.Executor || healthy || e.cause() != none {
			return none
		}
		return ended
	})
}

// IsDeath reports whether the termination is a death, and not only counted: see
// [Ended].
func (t *Termination) IsDeath() bool { return t.Cause != ended }

func endings(evidence Evidence, cause func(*ending) Cause) []Termination {
	pod, err := spark.PodOf(evidence.Pod)
	if err != nil {
		return nil
	}
	var all []Termination
	add := func(e ending, restarts int32) {
		e.Pod, e.killing = pod, evidence.Killing
		if cause := cause(&e); cause != none {
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

// lastRun returns the number of the run that lastState is about. That is the run
// before. But while the newest run waits to be restarted (CrashLoopBackOff), it is the
// newest, because the kubelet has copied state to lastState and not counted it yet.
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
		LimitReached: cause == HeapOOM && e.reason("OOMKilled"), OnOutOfMemory: e.onOutOfMemory(),
	}
	t.Set, t.Number = e.identity(restarts)
	t.uid = e.shortUID()
	if e.terminated != nil {
		t.ExitCode = &e.terminated.ExitCode
		if !e.terminated.StartedAt.IsZero() {
			t.lived = e.terminated.FinishedAt.Sub(e.terminated.StartedAt.Time)
			t.started = true
		}
	}
	if e.sparks() {
		e.describeMemory(&t)
	}
	switch {
	case cause == Hung:
		t.ProbeFailure = probeFailure(e.Pod)
	case cause == Killed && e.sparks():
		t.Probed = e.probed()
	}
	return t
}

// identity returns the set and number of a termination. Spark never uses an executor's
// number twice. But only executors that it starts itself know their number for sure,
// and run once. Other pods may claim a number too: see [Record.Claims].
func (e *ending) identity(restarts int32) (set string, number int64) {
	id, ok := e.ExecutorID()
	_, direct := e.Driver()
	switch {
	case e.Role == spark.Driver:
		set, number = "driver", int64(restarts)
	case ok && restarts == 0 && (direct || e.Spec.RestartPolicy == corev1.RestartPolicyNever):
		set, number = "executors", id
	default:
		set, number = podSet("", e.shortUID()), int64(restarts)
	}
	if e.container != "" {
		set += "/" + e.container
	}
	return set, number
}

func (e *ending) shortUID() string {
	uid, _, _ := strings.Cut(string(e.UID), "-")
	return uid[:min(len(uid), 8)]
}

func (e *ending) describeMemory(t *Termination) {
	m := e.Memory()
	t.LimitMiB, t.HeapMiB, t.Estimated = m.Limit>>20, m.Heap>>20, m.Estimated
	if m.Request != m.Limit {
		t.RequestMiB = m.Request >> 20
	}
	t.LocalDirsInMemory = len(e.LocalDirsInMemory()) > 0
	t.LocalDirsOnClaim = e.LocalDirsOnClaim()
	t.LimitByOthers = e.ByHand()
	if e.Role == spark.Executor {
		t.Cores = e.Cores()
		if profile := e.ResourceProfile(); profile != "0" {
			t.Profile = oneLine(profile, 10)
		}
		if stamp := annotations.ReadRemedyStamp(e.Annotations[annotations.Remedied]); stamp.Mode == "" && stamp != (annotations.RemedyStamp{}) {
			t.Remedied = &stamp
			if stamp.Memory != nil {
				t.RequestMiB = 0 // the request stayed as Spark asked
			}
		}
	}
}

// at returns when it ended. A pod that never ran has only its conditions.
func (e *ending) at() metav1.Time {
	if e.terminated != nil && !e.terminated.FinishedAt.IsZero() {
		return e.terminated.FinishedAt
	}
	return e.LastChange(annotations.DeathCondition)
}

// soon is how soon after its start an executor ends that cannot start at all: its JVM
// refuses an option, or it does not find its driver's name.
const soon = 30 * time.Second

const notStarted = "could not be started"

const maxSaid = 200 // bytes of a quote

func (e *ending) said(cause Cause) string {
	said := ""
	switch cause {
	case HeapOOM, JavaOOM:
		said = e.outOfMemory()
	case Crashed:
		said = e.words().Crash
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
	case OOMKilled, ChildOOMKilled, Killed, Hung, ended:
	case Failed:
		said = cmp.Or(e.Status.Message, e.words().Limit, e.initFailed())
		if e.unstarted() {
			said = notStarted + ": " + e.terminated.Message
		}
	default:
		said = e.Status.Message
	}
	return oneLine(said, maxSaid)
}

// initFailed returns which init container kept Spark's from running.
func (e *ending) initFailed() string {
	if e.terminated != nil {
		return ""
	}
	for i := range e.Status.InitContainerStatuses {
		s := &e.Status.InitContainerStatuses[i]
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("its init container %s ended with exit code %d", s.Name, t.ExitCode)
		}
	}
	return ""
}

// oneLine makes foreign text fit to be quoted: printable, on one line, and not longer
// than so many bytes. It ends with a whole word.
func oneLine(text string, length int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }), " ")
	text = strings.ToValidUTF8(strings.NewReplacer(`"`, "'", `\`, "/").Replace(text), "")
	if len(text) <= length {
		return text
	}
	const more = "\u2026" // no dots, which end a sentence
	cut := strings.ToValidUTF8(text[:length-len(more)], "")
	if i := strings.LastIndexByte(text[:len(cut)+1], ' '); i >= length/2 { // otherwise it is one long word
		cut = strings.TrimRight(text[:i], " ,;:")
	}
	return cut + more
}

// quick reports whether it ended soon after its start.
func (t *Termination) quick() bool { return t.started && t.lived <= soon }

// IsSparks reports whether Spark's own container ended.
func (t *Termination) IsSparks() bool { return t.Container == "" }

// isNumbered reports whether Number is an executor's.
func (t *Termination) isNumbered() bool { return strings.HasPrefix(t.Set, "executors") }

// Suspected reports whether memory may have been the cause, without proof.
func (t *Termination) Suspected() bool {
	return t.Cause == Killed && (t.OnOutOfMemory != "" || t.ExitCode != nil && *t.ExitCode == exitSIGKILL)
}

// SetHeap replaces the estimate of a driver's heap, in bytes, by the value from its
// configuration. It ignores a value that contradicts the limit.
func (t *Termination) SetHeap(heap int64) {
	if mib := heap >> 20; mib > 0 && (t.LimitMiB == 0 || mib <= t.LimitMiB) {
		t.HeapMiB, t.Estimated = mib, false
	}
}

// String returns what ended: "executor 7", "container proxy of the driver".
func (t *Termination) String() string {
	who := "the driver"
	switch {
	case t.Role != spark.Executor:
	case t.isNumbered():
		who = fmt.Sprintf("executor %d", t.Number)
	default:
		who = "executor " + t.Pod
	}
	if t.Container != "" {
		who = "container " + t.Container + " of " + who
	}
	return who
}

// compare sorts what ended later first. It breaks ties by what does not change when
// another pod claims the same number.
func (t *Termination) compare(other *Termination) int {
	return cmp.Or(
		other.At.Truncate(time.Second).Compare(t.At.Truncate(time.Second)),
		cmp.Compare(len(other.Pod), len(t.Pod)), // within a second the highest number first: exec-10 before exec-9
		strings.Compare(other.Pod, t.Pod),
		strings.Compare(t.Container, other.Container),
		cmp.Compare(other.Number, t.Number),
	)
}
