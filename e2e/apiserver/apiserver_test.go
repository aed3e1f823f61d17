// Package apiserver tests the webhook on a real API server, over TLS, with the
// pods of real Spark and with generated ones.
package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// One namespace for each mode; the last is not labelled.
const enabled, audited, unlabelled = "enabled", "audited", "unlabelled"

var client kubernetes.Interface

func TestMain(m *testing.M) {
	if err := withCluster(m); err != nil {
		panic(err)
	}
}

func withCluster(m *testing.M) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "spark-vitals-apiserver-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := cluster.StartControlPlane(ctx, dir, os.Stderr)
	if err != nil {
		return err
	}
	defer c.Stop()
	w, err := c.StartWebhook(ctx, os.Stderr, "--shutdown-delay=0s")
	if err != nil {
		return err
	}
	defer w.Stop()
	if err := c.Register(ctx, w.URL); err != nil {
		return err
	}
	for name, mode := range map[string]string{enabled: "enabled", audited: "audit", unlabelled: ""} {
		if err := c.Namespace(ctx, name, mode); err != nil {
			return err
		}
	}
	if client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	m.Run()
	return nil
}

// create asks for a pod without making it.
func create(t *testing.T, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	pod = pod.DeepCopy()
	pod.Namespace = namespace
	return client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// The captured pods get what the library says, and nothing else; in audit
// stamps alone; without the label nothing.
func TestCapturedPods(t *testing.T) {
	for _, review := range captured.Reviews() {
		if review.Kind() != "Pod" {
			continue
		}
		t.Run(review.Name, func(t *testing.T) {
			pod, err := cluster.CapturedPod(review, enabled)
			if err != nil {
				t.Fatal(err)
			}
			check(t, pod)
		})
	}
}

// What the API server accepts without us it accepts with us, whatever the pod.
func TestGeneratedPods(t *testing.T) {
	const pods = 400
	accepted := 0
	for seed := range pods {
		pod := generate.Pods().Example(seed)
		if _, err := create(t, unlabelled, pod); err != nil {
			continue // not a pod that anybody could make
		}
		accepted++
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) { check(t, pod) })
	}
	t.Logf("%d of %d generated pods are valid", accepted, pods)
	if accepted < pods*3/4 {
		t.Errorf("only %d of %d generated pods are valid; the generator is wrong", accepted, pods)
	}
}

func check(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	plain, err := create(t, unlabelled, pod)
	if err != nil {
		t.Fatalf("without the label: %v", err)
	}
	want, choice := expected(plain)
	for _, namespace := range []string{enabled, audited} {
		got, err := create(t, namespace, pod)
		if err != nil {
			t.Errorf("refused in %s: %v", namespace, err)
			continue
		}
		if namespace == enabled && choice.Mode == policy.Enabled {
			compare(t, namespace, want, got)
			continue
		}
		withoutStamps := plain.DeepCopy()
		withoutStamps.Annotations, got.Annotations = nil, nil
		compare(t, namespace, withoutStamps, got)
	}
}

// expected is what the library makes of a pod, as the API server completed it.
func expected(plain *corev1.Pod) (*corev1.Pod, policy.Choice) {
	want := plain.DeepCopy()
	pod, err := spark.PodOf(want)
	if err != nil {
		patches.Clean(want)
		return want, policy.Choice{Mode: policy.Enabled}
	}
	choice := policy.Default().For(pod, policy.Enabled)
	patches.Apply(pod, choice)
	return want, choice
}

func compare(t *testing.T, namespace string, want, got *corev1.Pod) {
	t.Helper()
	for _, pod := range []*corev1.Pod{want, got} {
		pod.Namespace, pod.UID, pod.ResourceVersion, pod.CreationTimestamp, pod.ManagedFields = "", "", "", metav1.Time{}, nil
		for i := range pod.Spec.Volumes { // named at random for each pod
			pod.Spec.Volumes[i].Name = ""
		}
		for i := range pod.Spec.Containers {
			for j := range pod.Spec.Containers[i].VolumeMounts {
				pod.Spec.Containers[i].VolumeMounts[j].Name = ""
			}
		}
	}
	if !apiequality.Semantic.DeepEqual(want, got) {
		t.Errorf("in %s:\n%s", namespace, cmp.Diff(want, got))
	}
}

// Spark applies its Service on the server's side; the patch holds there too.
func TestServices(t *testing.T) {
	for _, review := range captured.Reviews() {
		if review.Kind() != "Service" {
			continue
		}
		for namespace, want := range map[string]bool{enabled: true, audited: false, unlabelled: false} {
			service, err := cluster.CapturedService(review, namespace)
			if err != nil {
				t.Fatal(err)
			}
			object, err := json.Marshal(service)
			if err != nil {
				t.Fatal(err)
			}
			created, err := client.CoreV1().Services(namespace).Patch(t.Context(), service.Name, types.ApplyPatchType, object,
				metav1.PatchOptions{FieldManager: "fabric8", DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				t.Fatal(err)
			}
			if created.Spec.PublishNotReadyAddresses != want {
				t.Errorf("%s in %s: publishNotReadyAddresses is %v", review.Name, namespace, created.Spec.PublishNotReadyAddresses)
			}
			if _, stamped := created.Annotations[annotations.Injected]; stamped != (namespace != unlabelled) {
				t.Errorf("%s in %s: stamped is %v", review.Name, namespace, stamped)
			}
		}
	}
}
