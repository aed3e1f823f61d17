package oom

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// State is the state of a driver that ended without success. It is "" while the driver
// runs or may be started again, and after a success.
type State string

// The states.
const (
	StateKilled State = "KILLED" // by a limit, a probe, a signal or the platform
	StateFailed State = "FAILED" // by itself, with an error or a crash
)

// State returns the state of the record's driver.
func (r *Record) State(driver spark.Pod) State {
	switch {
	case r.Driver == nil || r.Driver.Cause == ChildOOMKilled && *r.Driver.ExitCode == 0:
		return ""
	case driver.Restarts() && driver.Status.Phase != corev1.PodFailed:
		return ""
	case r.Driver.Cause == Failed, r.Driver.Cause == Crashed:
		return StateFailed
	}
	return StateKilled
}

// Reason returns one word, such as DriverOOMKilled. While the driver runs and has not
// died before, the word is about its executors and sidecars: ExecutorHeapOOM,
// SidecarOOMKilled.
func (r *Record) Reason() string {
	if r.Driver != nil {
		return "Driver" + string(r.Driver.Cause)
	}
	d := r.headline()
	switch {
	case d == nil:
		return ""
	case !d.IsSparks():
		return "Sidecar" + string(d.Cause)
	}
	return "Executor" + string(d.Cause)
}

const (
	maxMessage = 1 << 10
	minMessage = 64 // a shorter one says nothing useful
	// leastWithRemedy is enough for the other annotations, cut short.
	leastWithRemedy = 4 << 10
	// Plenty is enough for all annotations of a record, in bytes.
	Plenty = 2 * MaxBytes
)

// Annotations returns the record's annotations for the driver's pod. They depend only
// on the record, on what never changes in the pod, and, if the driver may be started
// again, on whether it has failed. space is how many bytes they may have, keys
// included. [Plenty] is enough for all of them.
func (r *Record) Annotations(driver spark.Pod, space int) map[string]string {
	all := map[string]string{}
	put := func(key, value string) {
		if n := len(key) + len(value); value != "" && n <= space {
			all[key], space = value, space-n
		}
	}
	remedy := annotations.RemedyText(r.Remedy)
	if len(annotations.Remedy)+len(remedy) > space-leastWithRemedy { // the message must not tell of what does not fit
		without := *r
		without.Remedy, remedy = nil, ""
		r = &without
	}
	put(annotations.State, string(r.State(driver)))
	put(annotations.Reason, r.Reason())
	if length := min(maxMessage, space-len(annotations.Message)); length > minMessage {
		put(annotations.Message, oneLine(r.Message(driver), length))
	}
	put(annotations.Advice, r.advice(driver))
	put(annotations.Remedy, remedy)
	put(annotations.OOM, r.encode(min(MaxBytes, space-len(annotations.OOM))))
	return all
}

// Condition returns the record's reason and message as a pod condition, or nil if the
// driver has no state. Its time is that of the death.
func (r *Record) Condition(driver spark.Pod) *corev1.PodCondition {
	if r.State(driver) == "" {
		return nil
	}
	return &corev1.PodCondition{
		Type: annotations.DeathCondition, Status: corev1.ConditionTrue, LastTransitionTime: r.Driver.At,
		Reason: r.Reason(), Message: oneLine(r.Message(driver), maxMessage),
	}
}

// advice returns the changes that the message advises as JSON, or "" if there are none.
func (r *Record) advice(driver spark.Pod) string {
	changes := r.Changes(driver)
	if len(changes) == 0 {
		return ""
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return "" // impossible with strings
	}
	return string(text)
}

// PreviousDriver is how a SparkApplication's previous driver ended. It is the value of
// the annotation [annotations.Previous], and is not about the driver that has it.
type PreviousDriver struct {
	Driver  string      `json:"driver"`
	UID     types.UID   `json:"uid"`
	State   State       `json:"state"`
	Reason  string      `json:"reason,omitempty"`
	Message string      `json:"message,omitempty"` // at most 1 KiB
	At      metav1.Time `json:"at"`
}

const maxPrevious = 8 << 10 // bytes, far more than the recorder writes

// ReadPrevious reads the annotation [annotations.Previous]. It returns nil if there is
// none.
func ReadPrevious(from map[string]string) (*PreviousDriver, error) {
	text, ok := from[annotations.Previous]
	if !ok {
		return nil, nil
	}
	if len(text) > maxPrevious {
		return nil, fmt.Errorf("annotation %s: it has %d bytes, and at most %d are written", annotations.Previous, len(text), maxPrevious)
	}
	var p PreviousDriver
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotations.Previous, err)
	}
	return &p, nil
}
