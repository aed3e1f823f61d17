// Package failing breaks parts of spark-vitals under a real API server with
// failurePolicy Ignore: a pod of Spark's is created all the same, in time, and
// while the webhook is renewed none is missed.
package failing

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
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

// A site is a namespace, and the webhook that is registered for it.
type site struct{ name string }

func register(t *testing.T, name, url string) site {
	t.Helper()
	labels := map[string]string{"site": name}
	if err := controlPlane.Register(t.Context(), name, url, labels); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	labels[annotations.Inject] = string(policy.Enabled)
	if err := controlPlane.Namespace(t.Context(), name, labels); err != nil {
		t.Fatal(err)
	}
	return site{name}
}

// create an executor, without making it.
func (s site) create(ctx context.Context) (injected bool, err error) {
	pod, err := cluster.CapturedPod(captured.Named("spark-3.5.9/executor"), s.name)
	if err != nil {
		return false, err
	}
	pod, err = client.CoreV1().Pods(s.name).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false, err
	}
	return pod.Spec.Containers[0].ReadinessProbe != nil, nil
}

// seen waits until the API server knows of the registration.
func (s site) seen(t *testing.T) {
	t.Helper()
	eventually(t, "injected", func() bool {
		injected, err := s.create(t.Context())
		return err == nil && injected
	})
}

// workers that create pods at a time.
const workers = 4

// A stream creates pods without pause until it is stopped.
type stream struct {
	stop  chan struct{}
	ended sync.WaitGroup

	mu                  sync.Mutex
	created, uninjected int
	failed              error
}

func (s site) creating(t *testing.T) *stream {
	c := &stream{stop: make(chan struct{})}
	for range workers {
		c.ended.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
					injected, err := s.create(t.Context())
					c.count(injected, err)
				}
			}
		})
	}
	return c
}

func (c *stream) count(injected bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.created++
	if err != nil {
		c.failed = err
	} else if !injected {
		c.uninjected++
	}
}

// more waits until as many more pods have been created.
func (c *stream) more(t *testing.T, n int) {
	t.Helper()
	created := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.created
	}
	before := created()
	eventually(t, fmt.Sprintf("%d more pods", n), func() bool { return created() >= before+n })
}

// end stops the stream and tells how many of its pods were not injected.
func (c *stream) end(t *testing.T) (uninjected int) {
	t.Helper()
	close(c.stop)
	c.ended.Wait()
	if c.failed != nil {
		t.Errorf("a pod was not created: %v", c.failed)
	}
	t.Logf("%d pods", c.created)
	return c.uninjected
}

func failedOpen(t *testing.T) int {
	t.Helper()
	n, err := controlPlane.FailedOpen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not %s after a minute", what)
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}
