// Package failing breaks parts of spark-vitals under a real API server with
// failurePolicy Ignore: Spark's pods are created all the same, in time, and no pod is
// missed while the webhook is replaced.
package failing

import (
	"context"
	"os"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/policy"
)

var (
	controlPlane *cluster.ControlPlane
	client       kubernetes.Interface
)

func TestMain(m *testing.M) {
	err := cluster.WithControlPlane(context.Background(), os.Stderr, func(c *cluster.ControlPlane) error {
		controlPlane, client = c, c.Client
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// registration is a namespace and the webhook that is registered for it.
type registration struct{ name string }

func register(t *testing.T, name, url string, change ...func(*admissionregistrationv1.MutatingWebhook)) registration {
	t.Helper()
	labels := map[string]string{"registration": name}
	if err := controlPlane.Register(t.Context(), name, url, labels, change...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	labels[annotations.Inject] = string(policy.Enabled)
	if err := controlPlane.Namespace(t.Context(), name, labels); err != nil {
		t.Fatal(err)
	}
	return registration{name}
}

// create dry-runs the creation of an executor.
func (s registration) create(ctx context.Context) (injected bool, err error) {
	pod, err := cluster.AskOnce(ctx, client, s.name)
	return err == nil && pod.Annotations[annotations.Injected] != "", err
}

// seen waits until the API server knows of the registration.
func (s registration) seen(t *testing.T) {
	t.Helper()
	if err := cluster.Injects(t.Context(), client, s.name, patience); err != nil {
		t.Fatal(err)
	}
}

// stream creates pods without pause until it is ended.
type stream struct{ *cluster.Asking }

func (s registration) creating(t *testing.T) stream {
	return stream{cluster.Ask(t.Context(), client, s.name)}
}

// more waits until n more pods have been created.
func (s stream) more(t *testing.T, n int) {
	t.Helper()
	if err := s.More(n); err != nil {
		t.Fatal(err)
	}
}

// end stops the stream and returns how many of its pods were not injected.
func (s stream) end(t *testing.T) (uninjected int) {
	t.Helper()
	tally := s.End()
	if tally.Refused > 0 {
		t.Errorf("a pod was not created: %v", tally.Why)
	}
	t.Log(tally)
	return tally.Uninjected
}

func failedOpen(t *testing.T) int {
	t.Helper()
	n, err := controlPlane.FailedOpen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const patience = 3 * time.Minute // with a machine that is slow, or stalls
