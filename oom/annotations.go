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

// State of a driver that ended without success; "" while it runs or may be started
// again, or where it succeeded.
type State string

// The states.
const (
	StateKilled State = "KILLED" // by a resource's limit, a probe, a signal, the platform
	StateFailed State = "FAILED" // by itself, with an error or a crash
)

// State of the record's driver.
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

// Reason in one word, such as DriverOOMKilled; while the driver runs and has not
// died before, of its executors and sidecars: ExecutorHeapOOM, SidecarOOMKilled.
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
	minMessage = 64 // below it nothing useful can be told
	// Plenty of room for all annotations of a record.
	Plenty = 2 * MaxBytes
)

// Annotations of the record, for the driver's pod; they are a function of the
// record, of what never changes in the pod, and, where it may be started again, of
// whether it has failed. Room is how many bytes they may have, keys included;
// [Plenty] of it gives all of them.
func (r *Record) Annotations(driver spark.Pod, room int) map[string]string {
	all := map[string]string{}
	put := func(key, value string) {
		if n := len(key) + len(value); value != "" && n <= room {
			all[key], room = value, room-n
		}
	}
	put(annotations.State, string(r.State(driver)))
	put(annotations.Reason, r.Reason())
	if length := min(maxMessage, room-len(annotations.Message)); length > minMessage {
		put(annotations.Message, oneLine(r.Message(driver), length))
	}
	put(annotations.Advice, r.advice(driver))
	put(annotations.OOM, r.encode(min(MaxBytes, room-len(annotations.OOM))))
	return all
}

// Condition of a driver that has a state: the reason and the message of the record
// as a pod condition, nil where there is no state. Its time is that of the death.
func (r *Record) Condition(driver spark.Pod) *corev1.PodCondition {
	if r.State(driver) == "" {
		return nil
	}
	return &corev1.PodCondition{
		Type: annotations.DeathCondition, Status: corev1.ConditionTrue, LastTransitionTime: r.Driver.At,
		Reason: r.Reason(), Message: oneLine(r.Message(driver), maxMessage),
	}
}

// advice is the changes that the message advises as JSON, "" if there are none.
func (r *Record) advice(driver spark.Pod) string {
	changes := r.Changes(driver)
	if len(changes) == 0 {
		return ""
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return "" // not of strings
	}
	return string(text)
}

// PreviousDriver is how the driver ended that a SparkApplication had before: the
// value of the annotation [annotations.Previous]. It says nothing about the driver
// on which it stands.
type PreviousDriver struct {
	Driver  string      `json:"driver"`
	UID     types.UID   `json:"uid"`
	State   State       `json:"state"`
	Reason  string      `json:"reason,omitempty"`
	Message string      `json:"message,omitempty"` // at most 1 KiB
	At      metav1.Time `json:"at"`
}

const maxPrevious = 8 << 10 // bytes, far above what is written

// ReadPrevious reads the annotation [annotations.Previous]; nil if there is none.
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
