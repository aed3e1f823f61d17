// Package apiserver tests the webhook on a real API server, over TLS, with the
// pods of real Spark and with generated ones: each ready-made policy and one
// that does everything, alone and between other webhooks.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/policy"
)

var (
	controlPlane *cluster.ControlPlane
	client       kubernetes.Interface
	webhooks     []*webhook
)

// webhook is a webhook with a policy, and its namespaces. It runs with
// --validation=deny, so that a wrong refusal shows.
type webhook struct {
	name   string
	policy *policy.Policy
}

// The namespaces of a webhook. All webhooks share the unlabelled one.
func (s *webhook) enabled() string { return s.name + "-enabled" }
func (s *webhook) audited() string { return s.name + "-audited" }

const unlabelled = "unlabelled"

func TestMain(m *testing.M) {
	ctx := context.Background()
	err := cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error {
		controlPlane, client = c, c.Client
		if err := c.Namespace(ctx, unlabelled, nil); err != nil {
			return err
		}
		kubeconfig, err := webhookAccount(ctx)
		if err != nil {
			return err
		}
		sources := generate.EachPolicy()
		for i, name := range append(slices.Clone(policy.RuleSets), "everything") {
			w, err := startWebhook(ctx, name, sources[i], kubeconfig)
			if err != nil {
				return err
			}
			defer w.Stop()
		}
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// webhookAccount returns a kubeconfig of the webhook's account, with the rights that the
// chart gives it if a rule has a remedy.
func webhookAccount(ctx context.Context) (kubeconfig string, err error) {
	if err := controlPlane.Namespace(ctx, "spark-vitals", nil); err != nil {
		return "", err
	}
	rights, err := helm.Rights("spark-vitals", "webhook", map[string]any{"policy": generate.Everything})
	if err != nil {
		return "", err
	}
	return controlPlane.Allow(ctx, rights, "")
}

func startWebhook(ctx context.Context, name, source, kubeconfig string) (*cluster.Webhook, error) {
	parsed, err := policy.Parse([]byte(source))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(controlPlane.Dir, name+".yaml")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		return nil, err
	}
	w, err := controlPlane.StartWebhook(ctx, os.Stderr, "--shutdown-delay=0s", "--validation=deny", "--policy="+file, "--watch-drivers", "--kubeconfig="+kubeconfig)
	if err != nil {
		return nil, err
	}
	s := &webhook{name, parsed}
	webhooks = append(webhooks, s)
	labels := map[string]string{"policy": name}
	return w, errors.Join(
		controlPlane.Register(ctx, "m-spark-vitals-"+name, w.URL, labels),
		controlPlane.RegisterValidation(ctx, "m-spark-vitals-"+name, w.URL, labels),
		namespace(ctx, s.enabled(), labels, policy.Enabled),
		namespace(ctx, s.audited(), labels, policy.Audit),
		cluster.Injects(ctx, client, s.enabled(), patience),
		cluster.Injects(ctx, client, s.audited(), patience),
		s.denies(ctx),
		knowsDrivers(ctx, w),
	)
}

const patience = 3 * time.Minute // with what the API server takes a moment to know

// knowsDrivers waits until the webhook knows all drivers.
func knowsDrivers(ctx context.Context, w *cluster.Webhook) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		metrics, err := w.Metrics(ctx)
		return err == nil && !strings.Contains(metrics, "spark_vitals_remedy_drivers -1"), nil
	})
}

// denies waits until drivers with a mistake are refused, because the API server takes a
// moment to know the registration.
func (s *webhook) denies(ctx context.Context) error {
	pod, err := cluster.CapturedPod(captured.Named("spark-3.5.9/driver"), s.enabled())
	if err != nil {
		return err
	}
	pod.Annotations = map[string]string{annotations.Rule: "no such rule"}
	var last error
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		last = errors.Join(errors.New("not refused by us"), err)
		return refused(err), nil
	})
	if err != nil {
		return fmt.Errorf("no driver is refused in the namespace %s: %w (%w)", pod.Namespace, err, last)
	}
	return nil
}

func namespace(ctx context.Context, name string, labels map[string]string, mode policy.Mode) error {
	all := maps.Clone(labels)
	all[annotations.Inject] = string(mode)
	return controlPlane.Namespace(ctx, name, all)
}

// create dry-runs the creation of a pod.
func create(t *testing.T, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	pod = pod.DeepCopy()
	pod.Namespace = namespace
	return client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// refused reports whether the webhook refused a pod, with advice.
func refused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "spark-vitals.io/inject: disabled")
}

func seed(i int) string { return fmt.Sprintf("seed-%d", i) }
