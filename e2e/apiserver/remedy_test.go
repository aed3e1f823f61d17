package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A plan that is written on a driver reaches its next executor, and no other one. When
// the driver's annotation turns it off, executors are as Spark asked again.
func TestRemedy(t *testing.T) {
	s := webhooks[len(webhooks)-1]
	kubelet := cluster.Kubelet{Interface: client}
	var drivers []*corev1.Pod
	for _, name := range []string{"remedy-a", "remedy-b"} {
		driver, err := kubelet.Driver(t.Context(), s.enabled(), name)
		if err != nil {
			t.Fatal(err)
		}
		drivers = append(drivers, driver)
	}
	annotate := func(key, value string) {
		t.Helper()
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Pods(s.enabled()).Patch(t.Context(), drivers[0].Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	untilCores := func(of *corev1.Pod, want int) {
		t.Helper()
		eventually.Succeeds(t, fmt.Sprintf("executors of %s have %d cores", of.Name, want), func(ctx context.Context) error {
			asked, err := cluster.ExecutorWith(of, 4)
			if err != nil {
				return err
			}
			asked.Name = "remedied"
			made, err := client.CoreV1().Pods(s.enabled()).Create(ctx, asked.Pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				return err
			}
			executor, err := spark.PodOf(made)
			if err != nil || executor.Cores() != want {
				return fmt.Errorf("%d cores, %w", executor.Cores(), err)
			}
			return nil
		})
	}
	annotate(annotations.Remedy, annotations.RemedyText([]annotations.RemedyPlan{{
		Application: drivers[0].Labels[spark.ApplicationLabel], Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2, Until: time.Now().Add(time.Hour),
	}}))
	untilCores(drivers[0], 2)
	untilCores(drivers[1], 4)
	annotate(annotations.RemedyMode, "disabled")
	untilCores(drivers[0], 4)
}
