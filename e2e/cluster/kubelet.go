package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Kubelet is a stand-in for Spark and a kubelet: it creates captured pods under other
// names and writes their statuses as a kubelet does.
type Kubelet struct{ kubernetes.Interface }

// Driver creates a running driver of a new application.
func (k Kubelet) Driver(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return k.make(ctx, "spark-3.5.9/driver", namespace, name, func(p *corev1.Pod) { p.Labels[spark.ApplicationLabel] = "spark-" + name })
}

// Run creates a running driver of a new application, which is a run of a job.
func (k Kubelet) Run(ctx context.Context, namespace, name, job string) (*corev1.Pod, error) {
	return k.make(ctx, "spark-3.5.9/driver", namespace, name, func(p *corev1.Pod) {
		p.Labels[spark.ApplicationLabel] = "spark-" + name
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, annotations.Job, job)
	})
}

// Executor creates a running executor of a driver.
func (k Kubelet) Executor(ctx context.Context, driver *corev1.Pod, id int) (*corev1.Pod, error) {
	return k.make(ctx, "spark-3.5.9/executor", driver.Namespace, fmt.Sprintf("%s-exec-%d", driver.Name, id), func(p *corev1.Pod) {
		p.Labels[spark.ExecutorIDLabel] = strconv.Itoa(id)
		give(p, driver)
	})
}

// give makes an executor one of a driver's.
func give(executor, driver *corev1.Pod) {
	executor.Labels[spark.ApplicationLabel] = driver.Labels[spark.ApplicationLabel]
	executor.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: driver.Name, UID: driver.UID, Controller: new(true)}}
}

// ExecutorWith returns the captured executor with so many cores, as one of a driver's. It
// is not created.
func ExecutorWith(driver *corev1.Pod, cores int) (spark.Pod, error) {
	p, err := CapturedPod(captured.Named("spark-3.5.9/executor"), driver.Namespace)
	if err != nil {
		return spark.Pod{}, err
	}
	give(p, driver)
	executor, err := spark.PodOf(p)
	if err != nil {
		return spark.Pod{}, err
	}
	for i, e := range executor.Container().Env {
		if e.Name == spark.ExecutorCores {
			executor.Container().Env[i].Value = strconv.Itoa(cores)
		}
	}
	return executor, nil
}

func (k Kubelet) make(ctx context.Context, review, namespace, name string, change func(*corev1.Pod)) (*corev1.Pod, error) {
	p, err := CapturedPod(captured.Named(review), namespace)
	if err != nil {
		return nil, err
	}
	p.Name, p.GenerateName, p.Spec.NodeName = name, "", "node"
	change(p)
	var made *corev1.Pod
	again := false
	err = persistently(func() (err error) {
		made, err = k.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
		if again && apierrors.IsAlreadyExists(err) {
			made, err = k.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		}
		again = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", name, err)
	}
	return k.status(ctx, made, corev1.PodRunning, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
}

// Die writes the status of an ended container. The phase follows a second later, if
// ever, as with a real kubelet.
func (k Kubelet) Die(ctx context.Context, p *corev1.Pod, reason string, code int32) (*corev1.Pod, error) {
	return k.status(ctx, p, corev1.PodRunning, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: reason, ExitCode: code, FinishedAt: metav1.NewTime(time.Now()),
	}})
}

// Fail writes the phase Failed.
func (k Kubelet) Fail(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	return k.status(ctx, p, corev1.PodFailed, p.Status.ContainerStatuses[0].State)
}

// Remove deletes a pod at once, as the API server does with an ended pod.
func (k Kubelet) Remove(ctx context.Context, p *corev1.Pod) error {
	return persistently(func() error {
		err := k.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// persistently repeats calls that a busy machine makes too slow.
func persistently(call func() error) error {
	return retry.OnError(retry.DefaultBackoff, func(err error) bool { return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) }, call)
}

func (k Kubelet) status(ctx context.Context, p *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState) (*corev1.Pod, error) {
	container := p.Spec.Containers[len(p.Spec.Containers)-1].Name
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID},
		"status":   corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{Name: container, Ready: state.Running != nil, State: state}}},
	})
	if err != nil {
		return nil, err
	}
	var changed *corev1.Pod
	if err = persistently(func() (err error) {
		changed, err = k.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
		return err
	}); err != nil {
		return nil, fmt.Errorf("writing the status of %s: %w", p.Name, err)
	}
	return changed, nil
}
