package policy

import (
	"path"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Rule is what is done to the pods that it matches. It comes from [Parse], is shared
// between calls and must not be changed.
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
	Remedy                   *Remedy    `json:"remedy,omitempty"`

	// AcceptUnreadyDriver lets a driver's readiness or startup probe be so slow that
	// the driver loses its DNS name, and so its executors.
	AcceptUnreadyDriver bool `json:"acceptUnreadyDriver,omitempty"`
	// AcceptEarlyEnd lets a probe end a container that may be healthy: it may only be
	// starting, pause, or have called spark.stop().
	AcceptEarlyEnd bool `json:"acceptEarlyEnd,omitempty"`
	// Why is the reason for each probe, by the probe's name.
	Why map[ProbeName]string `json:"why,omitempty"`

	gated bool
}

// Gated reports whether the rule has a startup probe that holds its liveness probe
// back, even if a pod's setting has turned it off.
func (r *Rule) Gated() bool { return r.gated }

// Match selects the pods that a rule is for. All given fields must match.
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

// The probes, in the order in which the kubelet runs them.
const (
	Startup   ProbeName = "startup"
	Readiness ProbeName = "readiness"
	Liveness  ProbeName = "liveness"
)

// ProbeNames are all of them.
var ProbeNames = []ProbeName{Startup, Readiness, Liveness}

// Field returns the probe's field in a container: "livenessProbe".
func (n ProbeName) Field() string { return string(n) + "Probe" }

// Of returns the field of a container that has the probe.
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

// Probes are a rule's, with Kubernetes' defaults filled in. A nil probe is not
// injected.
type Probes struct {
	Startup   *corev1.Probe `json:"startup,omitempty"`
	Readiness *corev1.Probe `json:"readiness,omitempty"`
	Liveness  *corev1.Probe `json:"liveness,omitempty"`
}

// Named returns the field of the probe with that name.
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

// Contains reports whether a port is in the range.
func (r PortRange) Contains(port int32) bool { return r.From <= port && port <= r.To }

// subject is what a rule is matched against: a pod of Spark's, or the driver's
// Service, which shows all of the pod but the main class.
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
