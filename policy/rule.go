package policy

import (
	"path"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Rule says how the pods that it matches are to be run. It comes from [Parse],
// is shared between calls and must not be changed.
type Rule struct {
	// Name is the name in a stamp: "default/driver" in a ready-made set, "streaming" in
	// the user's own policy.
	Name  string `json:"name"`
	Match Match  `json:"match"`

	// One field a patch. What is absent is not done.

	Probes                   Probes     `json:"probes,omitzero"`
	MemoryAnnotations        bool       `json:"memoryAnnotations,omitempty"`
	BlockManagerPort         *PortRange `json:"blockManagerPort,omitempty"`
	ProcessTreeMetrics       bool       `json:"processTreeMetrics,omitempty"`
	PublishNotReadyAddresses bool       `json:"publishNotReadyAddresses,omitempty"`
	FallbackToLogsOnError    bool       `json:"fallbackToLogsOnError,omitempty"`
	ExitOnOutOfMemoryError   bool       `json:"exitOnOutOfMemoryError,omitempty"`
	LogStall                 *LogStall  `json:"logStall,omitempty"`

	// AcceptUnreadyDriver lets a driver's readiness or startup probe be so slow
	// that the driver loses its DNS name, and its executors with it.
	AcceptUnreadyDriver bool `json:"acceptUnreadyDriver,omitempty"`
	// AcceptEarlyEnd lets a probe end a container that may be healthy, as one
	// that only starts, pauses, or has called spark.stop().
	AcceptEarlyEnd bool `json:"acceptEarlyEnd,omitempty"`
	// Why gives the reason for each probe, by the probe's name.
	Why map[ProbeName]string `json:"why,omitempty"`

	gated bool
}

// Gated tells whether the rule has a startup probe to hold its liveness probe
// back, even when a pod's setting has turned it off.
func (r *Rule) Gated() bool { return r.gated }

// Match says which pods a rule is for. All that is given must hold.
type Match struct {
	Role         spark.Role            `json:"role"`
	Labels       *metav1.LabelSelector `json:"labels,omitempty"`
	MainClass    string                `json:"mainClass,omitempty"`
	SparkVersion string                `json:"sparkVersion,omitempty"`

	labels  labels.Selector
	version *semver.Constraints
}

// ProbeName is a probe's name in a policy and in a setting.
type ProbeName string

// The probes, in the order in which the kubelet comes to them.
const (
	Startup   ProbeName = "startup"
	Readiness ProbeName = "readiness"
	Liveness  ProbeName = "liveness"
)

// ProbeNames are all of them.
var ProbeNames = []ProbeName{Startup, Readiness, Liveness}

// Field is the probe's field in a container: "livenessProbe".
func (n ProbeName) Field() string { return string(n) + "Probe" }

// Of is the field of a container that holds the probe.
func (n ProbeName) Of(c *corev1.Container) **corev1.Probe {
	switch n {
	case Startup:
		return &c.StartupProbe
	case Readiness:
		return &c.ReadinessProbe
	default:
		return &c.LivenessProbe
	}
}

// Probes of a rule, with Kubernetes' defaults filled in; nil is not injected.
type Probes struct {
	Startup   *corev1.Probe `json:"startup,omitempty"`
	Readiness *corev1.Probe `json:"readiness,omitempty"`
	Liveness  *corev1.Probe `json:"liveness,omitempty"`
}

// Named is the probe of that name.
func (p *Probes) Named(name ProbeName) **corev1.Probe {
	switch name {
	case Startup:
		return &p.Startup
	case Readiness:
		return &p.Readiness
	default:
		return &p.Liveness
	}
}

// PortRange is a range of TCP ports, both ends included.
type PortRange struct {
	From int32 `json:"from"`
	To   int32 `json:"to"`
}

// Contains tells whether a port is in the range.
func (r PortRange) Contains(port int32) bool { return r.From <= port && port <= r.To }

// subject is what a rule is matched against: a pod of Spark's, or the driver's
// Service, which shows all of it but the main class.
type subject struct {
	role      spark.Role
	labels    labels.Set
	mainClass func() string
	version   func() *semver.Version
}

func (m *Match) matches(s subject) bool {
	return m.Role == s.role && m.matchesLabels(s) && m.matchesClass(s) && m.matchesVersion(s)
}

func (m *Match) matchesLabels(s subject) bool {
	return m.labels == nil || m.labels.Matches(s.labels)
}

func (m *Match) matchesClass(s subject) bool {
	if m.MainClass == "" || s.mainClass == nil {
		return true
	}
	ok, _ := path.Match(m.MainClass, s.mainClass())
	return ok
}

// matchesVersion reports whether the version matches. A version that cannot be read
// matches no rule that asks for one.
func (m *Match) matchesVersion(s subject) bool {
	if m.version == nil {
		return true
	}
	v := s.version()
	return v != nil && m.version.Check(v)
}
