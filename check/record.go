package check

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Record asks the API server if the caller may write a death on a pod. The error says
// what is not allowed, and by what. The recorder's readiness does not show that: it
// writes nothing until a pod dies.
func Record(ctx context.Context, client kubernetes.Interface, namespace, pod string) error {
	record := map[string]string{}
	for _, key := range annotations.Death {
		record[key] = "check"
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": record}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
	if err != nil {
		return fmt.Errorf("writing a record: %w", err)
	}
	return nil
}
