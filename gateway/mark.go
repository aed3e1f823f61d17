package gateway

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Mark is the value of the annotation [annotations.Released], as JSON:
// Kyuubi has forgotten the engine, or never knew it. It is written last, so a
// driver with it needs nothing more.
type Mark struct {
	Gateway      string    `json:"gateway"`
	At           time.Time `json:"at"` // whole seconds
	Registration Outcome   `json:"registration"`
	// Sessions that were closed.
	Sessions int `json:"sessions"`
	// GivenUp are servers that could not be reached for minutes; what sessions
	// they have is not known.
	GivenUp []string `json:"givenUp,omitempty"`
	// Instances of Kyuubi that looked for a registration: the root and namespace of
	// its engines. Another may still find one.
	Instances []string `json:"instances,omitempty"`
}

// MarkOf a pod; nothing where it has none that can be read.
func MarkOf(pod *corev1.Pod) (m Mark) {
	if json.Unmarshal([]byte(pod.Annotations[annotations.Released]), &m) != nil {
		return Mark{}
	}
	return m
}

// Settles tells whether an instance of Kyuubi has nothing left to do about a
// death. A mark from before the death is a forged one.
func (m Mark) Settles(instance string, d Death) bool {
	return m.Gateway == Name && !m.At.Before(d.At.Add(-clocks)) &&
		(m.Registration == Deregistered || m.Registration == Expired || slices.Contains(m.Instances, instance))
}

// Outcome of a release.
type Outcome string

// What has become of the registration.
const (
	Deregistered Outcome = "deregistered"
	// Expired: it was registered while it ran, and not any more when it had died:
	// it froze, or took its registration away itself. Its sessions are closed.
	Expired Outcome = "expired"
	// NotRegistered: none was ever seen that carried the engine's keys. Without it
	// there is no proof whose the sessions are, so none is closed.
	NotRegistered Outcome = "not-registered"
	// Unproven: it could not be shown in time whose the registration is, and it
	// has expired by now. No session was closed, or not all.
	Unproven Outcome = "unproven"
)

// String is the mark as the annotation has it.
func (m Mark) String() string {
	m.At = m.At.UTC().Truncate(time.Second)
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts, numbers and a time of this era
	}
	return string(text)
}
