package gateway

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// DeathOf tells when a driver ended without success: Spark's container is
// terminated in the pod's status with an exit code other than 0. The phase does
// not count; it turns one to two seconds later. dead is false
//   - while the container runs, whatever the pod's phase or annotations say. A
//     node that is lost reports nothing, and its driver may go on serving;
//   - after a success, which removes its registration itself;
//   - when the pod was being deleted before the container ended: somebody ended
//     the driver on purpose.
//
// A pod that is deleted within the second of its death counts as dead first:
// both times are whole seconds.
func DeathOf(driver spark.Pod) (at time.Time, dead bool) {
	name := driver.Container().Name
	i := slices.IndexFunc(driver.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return time.Time{}, false
	}
	ended := driver.Status.ContainerStatuses[i].State.Terminated
	if ended == nil || ended.ExitCode == 0 || deletion(driver.Pod).Before(ended.FinishedAt.Time) {
		return time.Time{}, false
	}
	return ended.FinishedAt.Time, true
}

var never = time.Unix(1<<40, 0)

// deletion is when somebody asked for it; deletionTimestamp is later by the
// grace period.
func deletion(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp == nil {
		return never
	}
	grace := time.Duration(0)
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	return pod.DeletionTimestamp.Add(-grace)
}

// Due tells whether a driver is to be released, and when it died. The hand-over
// is the record's state, which the recorder writes; the proof is [DeathOf]. A
// pod that is gone can no longer be given a record, so there its status alone
// decides. What has the mark [annotations.Released] is done.
func Due(driver spark.Pod, gone bool) (died time.Time, due bool) {
	died, dead := DeathOf(driver)
	_, released := driver.Annotations[annotations.Released]
	return died, dead && !released && (gone || driver.Annotations[annotations.State] != "")
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
