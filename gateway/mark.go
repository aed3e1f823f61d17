package gateway

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Mark is the value of the annotation [annotations.Released], as JSON: Kyuubi has
// forgotten the engine, or never knew it. The mark is written last, so a driver with it
// needs nothing more.
type Mark struct {
	Gateway      string    `json:"gateway"`
	At           time.Time `json:"at"` // whole seconds
	Registration Outcome   `json:"registration"`
	// Sessions is how many were closed.
	Sessions int `json:"sessions"`
	// GivenUp are servers that could not be reached for minutes. It is not known which
	// sessions they have.
	GivenUp []string `json:"givenUp,omitempty"`
	// Instances of Kyuubi that looked for a registration: the root and namespace of
	// its engines. Another may still find one.
	Instances []string `json:"instances,omitempty"`
}

// MarkOf returns a pod's mark, or an empty one if the pod has none that can be read.
func MarkOf(pod *corev1.Pod) (m Mark) {
	if json.Unmarshal([]byte(pod.Annotations[annotations.Released]), &m) != nil {
		return Mark{}
	}
	return m
}

// Settles reports whether an instance of Kyuubi has nothing left to do about a death. A
// mark from before the death is forged.
func (m Mark) Settles(instance string, d Death) bool {
	return m.Gateway == Name && !m.At.Before(d.At.Add(-clocks)) &&
		(m.Registration == Deregistered || m.Registration == Expired || slices.Contains(m.Instances, instance))
}

// Outcome is what happened to the registration.
type Outcome string

// The outcomes.
const (
	Deregistered Outcome = "deregistered"
	// Expired means that it was registered while it ran, and no longer after its death:
	// it froze, or removed its registration itself. Its sessions are closed.
	Expired Outcome = "expired"
	// NotRegistered means that no registration with the engine's keys was ever seen.
	// Nothing proves which sessions belong to it, so none is closed.
	NotRegistered Outcome = "not-registered"
	// Unproven means that the owner of the registration could not be proven in time,
	// and it has expired by now. Some sessions, or all, were not closed.
	Unproven Outcome = "unproven"
)

// String returns the mark as the annotation has it.
func (m Mark) String() string {
	m.At = m.At.UTC().Truncate(time.Second)
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts, numbers and a time of this era
	}
	return string(text)
}
