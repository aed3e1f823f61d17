package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/internal/captured"
)

// Namespace creates a namespace with labels and with the service account that the
// captured pods name, because no controller-manager does.
func (c *ControlPlane) Namespace(ctx context.Context, name string, labels map[string]string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the namespace %s: %w", name, err)
	}
	for _, account := range []string{"default", "spark"} {
		_, err := c.Client.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making the service account %s: %w", account, err)
		}
	}
	return nil
}

// CapturedPod returns a captured pod as its creator sent it, for a namespace.
func CapturedPod(review captured.Review, namespace string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := json.Unmarshal(review.Object(), pod)
	pod.Namespace, pod.ManagedFields = namespace, nil
	return pod, err
}

// CapturedService returns a captured Service as its creator sent it, for a namespace.
func CapturedService(review captured.Review, namespace string) (*corev1.Service, error) {
	service := &corev1.Service{}
	err := json.Unmarshal(review.Object(), service)
	service.Namespace, service.ManagedFields = namespace, nil
	return service, err
}
