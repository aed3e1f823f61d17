package recorder

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/oom"
)

// An executor that ended by itself is counted on its driver and has no Event. One
// that ended after its driver is not even counted.
func TestEndsAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		driverEnded bool
		want        int
	}{"the driver runs": {false, 1}, "the driver has ended": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			driver := dead(t, "OOMKilled")
			state := &driver.Status.ContainerStatuses[0].State
			if state.Terminated.ExitCode = 0; c.driverEnded {
				state.Terminated.Reason, state.Terminated.FinishedAt = "Completed", metav1.NewTime(now.Add(-10*time.Minute))
				driver.Status.Phase = corev1.PodSucceeded
			} else {
				driver.Status = corev1.PodStatus{Phase: corev1.PodRunning}
			}
			executor := died(t, "../oom/testdata/causes/none-executor-134.txtar")
			executor.Namespace, executor.Labels["spark-app-selector"] = driver.Namespace, driver.Labels["spark-app-selector"]
			executor.OwnerReferences[0].UID = driver.UID
			executor.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(now.Add(-5 * time.Minute))
			s := recording(t, driver)
			s.see(t, executor)
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			s.createAll(t)
			s.want(t, "", 0, 0)
			record, err := oom.Read(s.driver(t).Annotations)
			if err != nil || len(record.Ends) != c.want {
				t.Errorf("%+v, %v", record.Ends, err)
			}
		})
	}
}
