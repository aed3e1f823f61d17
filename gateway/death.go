package gateway

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Death is the death of a driver.
type Death struct {
	At time.Time `json:"at"` // whole seconds
	// Estimated is true if the kubelet did not report the time. At is then the latest
	// time in the pod's conditions.
	Estimated bool `json:"estimated,omitempty"`
}

// clocks bounds how much the clocks of the kubelet, the API server and Kyuubi differ.
const clocks = 2 * time.Second

// DeathOf returns when a driver ended without success. dead is true if the pod's status
// shows that Spark's container terminated with an exit code other than 0. It is also
// true if the container never ran and the phase is Failed, because the kubelet refused
// the pod or its node was removed. Otherwise the phase does not matter: it changes one
// to two seconds later, and not while a sidecar runs. dead is false
//   - while the container runs, whatever the pod's phase or annotations say. A lost
//     node reports nothing, and its driver may still serve;
//   - if the container may be started again, which Spark never asks for;
//   - after a success. The engine then removes its registration itself, even if a
//     sidecar makes the phase Failed;
//   - if the pod is deleted and its container never ran.
//
// It does not matter if someone ended the driver on purpose by deleting its pod: its
// sessions are dead too.
func DeathOf(driver spark.Pod) (d Death, dead bool) {
	if driver.Restarts() {
		return d, false
	}
	var state corev1.ContainerState
	if status := driver.ContainerStatus(); status != nil {
		state = status.State
	}
	switch ended := state.Terminated; {
	case state.Running != nil, ended != nil && ended.ExitCode == 0,
		ended == nil && (driver.Status.Phase != corev1.PodFailed || driver.DeletionTimestamp != nil):
		return d, false
	case ended != nil && !ended.FinishedAt.IsZero():
		d = Death{At: ended.FinishedAt.Time}
	default: // ContainerStatusUnknown, or it never ran
		d = Death{At: driver.LastChange(annotations.DeathCondition).Time, Estimated: true}
	}
	return d, true
}

// Addresses returns the pod's own addresses, from its status. It returns none for a pod
// that shares its node's address, because that proves nothing.
func Addresses(pod *corev1.Pod) (own []string) {
	if pod.Spec.HostNetwork {
		return nil
	}
	for _, ip := range pod.Status.PodIPs {
		own = append(own, ip.IP)
	}
	return own
}
