package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
)

// Askers is how many calls are in progress at a time.
const Askers = 4

// Asking dry-runs the creation of executors without pause, and counts the results.
type Asking struct {
	client    kubernetes.Interface
	namespace string
	cancel    context.CancelFunc
	ended     sync.WaitGroup

	mu    sync.Mutex
	tally Tally
}

// Tally counts dry-run creations of pods by result.
type Tally struct {
	Asked, Uninjected, Refused int
	Why                        error // the last was refused
}

func (t Tally) String() string {
	return fmt.Sprintf("%d pods asked for, %d not injected, %d refused", t.Asked, t.Uninjected, t.Refused)
}

// Ask begins to dry-run creations in a namespace; [Asking.End] ends it.
func Ask(ctx context.Context, client kubernetes.Interface, namespace string) *Asking {
	ctx, cancel := context.WithCancel(ctx)
	a := &Asking{client: client, namespace: namespace, cancel: cancel}
	for range Askers {
		a.ended.Go(func() {
			for ctx.Err() == nil {
				a.count(AskOnce(context.WithoutCancel(ctx), client, namespace))
			}
		})
	}
	return a
}

// AskOnce dry-runs the creation of an executor.
func AskOnce(ctx context.Context, client kubernetes.Interface, namespace string) (*corev1.Pod, error) {
	pod, err := CapturedPod(captured.Named("spark-3.5.9/executor"), namespace)
	if err != nil {
		return nil, err
	}
	return client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// Injects waits until executors in a namespace get stamps, because an API server takes
// a moment to know a registration and to reach the webhook.
func Injects(ctx context.Context, client kubernetes.Interface, namespace string, within time.Duration) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		pod, err := AskOnce(ctx, client, namespace)
		if err == nil && pod.Annotations[annotations.Injected] == "" {
			err = errors.New("a pod is passed by, without stamps")
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("nothing is injected in the namespace %s: %w (%w)", namespace, err, last)
	}
	return nil
}

func (a *Asking) count(pod *corev1.Pod, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.Asked++
	switch {
	case err != nil:
		a.tally.Refused++
		a.tally.Why = err
	case pod.Annotations[annotations.Injected] == "":
		a.tally.Uninjected++
	}
}

// Tally returns the results so far.
func (a *Asking) Tally() Tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tally
}

// More waits for n more results.
func (a *Asking) More(n int) error {
	for asked, end := a.Tally().Asked, time.Now().Add(5*time.Minute); a.Tally().Asked < asked+n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("no %d more pods within 5 minutes: %s", n, a.Tally())
		}
	}
	return nil
}

// End stops, and waits for the calls in progress.
func (a *Asking) End() Tally {
	a.cancel()
	a.ended.Wait()
	return a.Tally()
}
