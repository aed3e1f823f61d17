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

// DeathOf returns when a driver ended without success. dead is false
//   - while the driver has no [spark.Pod.End];
//   - if the container may be started again, which Spark never asks for;
//   - after a success. The engine then removes its registration itself, even if a
//     sidecar makes the phase Failed.
//
// It does not matter if someone ended the driver on purpose by deleting its pod: its
// sessions are dead too.
func DeathOf(driver spark.Pod) (d Death, dead bool) {
	end, ended := driver.End()
	if !ended || end.Success || driver.Restarts() {
		return d, false
	}
	if end.At.IsZero() { // ContainerStatusUnknown, or it never ran
		return Death{At: driver.LastChange(annotations.DeathCondition).Time, Estimated: true}, true
	}
	return Death{At: end.At.Time}, true
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
