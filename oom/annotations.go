package oom

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

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
