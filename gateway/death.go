package gateway

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Death of a driver.
type Death struct {
	At time.Time `json:"at"` // whole seconds
	// Estimated: the kubelet did not report when; At is the latest that the pod's
	// conditions show.
	Estimated bool `json:"estimated,omitempty"`
}

// clocks of the kubelet, of the API server and of a gateway differ by less.
const clocks = 2 * time.Second

// DeathOf tells when a driver ended without success: Spark's container is
// terminated in the pod's status with an exit code other than 0, or it never ran
// and the phase is Failed (refused by the kubelet, or its node was removed). The
// phase is else not needed: it turns one to two seconds later, and not at all
// while a sidecar runs. dead is false
//   - while the container runs, whatever the pod's phase or annotations say. A
//     node that is lost reports nothing, and its driver may go on serving;
//   - where the container may be started again, which Spark never asks for;
//   - after a success, which removes its registration itself, though a sidecar
//     may make the phase Failed;
//   - where the pod is deleted and its container never ran.
//
// Whether somebody ended the driver on purpose, by deleting its pod, does not
// matter: its sessions are dead all the same.
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
		d = Death{At: lastChange(driver.Pod), Estimated: true}
	}
	return d, true
}

// lastChange of a pod's conditions, or its creation.
func lastChange(pod *corev1.Pod) time.Time {
	at := pod.CreationTimestamp
	for _, c := range pod.Status.Conditions {
		if c.Type != annotations.DeathCondition && c.LastTransitionTime.After(at.Time) { // ours is about the death
			at = c.LastTransitionTime
		}
	}
	return at.Time
}

// Due tells whether a driver is to be released by an instance of Kyuubi, and when
// it died. The hand-over is the record's state, which the recorder writes;
// the proof is [DeathOf]. A pod that is deleted need not be given a record, and
// one that is gone cannot, so there the status alone decides. What has its mark
// is done; see [Mark.Settles].
func Due(driver spark.Pod, gone bool, instance string) (d Death, due bool) {
	d, dead := DeathOf(driver)
	settled := MarkOf(driver.Pod).Settles(instance, d)
	return d, dead && !settled && (gone || driver.DeletionTimestamp != nil || driver.Annotations[annotations.State] != "")
}

// Addresses are the pod's own, from its status; none where it shares its node's,
// which would prove nothing.
func Addresses(pod *corev1.Pod) (own []string) {
	if pod.Spec.HostNetwork {
		return nil
	}
	for _, ip := range pod.Status.PodIPs {
		own = append(own, ip.IP)
	}
	return own
}
