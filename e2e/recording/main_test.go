// Package recording tests the recorder on a real API server: as a process of
// its own, with exactly the rights that the chart gives it. What a kubelet and Spark
// do, the tests do.
package recording

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var (
	controlPlane *cluster.ControlPlane
	kubelet      cluster.Kubelet
	kubeconfig   string // of the recorder, without the right to read ConfigMaps
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	err := cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) (err error) {
		controlPlane, kubelet = c, cluster.Kubelet{Interface: c.Client}
		if err := c.Namespace(ctx, "spark-vitals", nil); err != nil {
			return err
		}
		rights, err := helm.Rights("spark-vitals", "recorder", nil)
		if err != nil {
			return err
		}
		if kubeconfig, err = c.Allow(ctx, rights, ""); err != nil {
			return err
		}
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// newNamespace makes a namespace for a test, with the label inject if mode is not
// empty.
func newNamespace(t *testing.T, mode string) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	labels := map[string]string{}
	if mode != "" {
		labels[annotations.Inject] = mode
	}
	if err := controlPlane.Namespace(t.Context(), name, labels); err != nil {
		t.Fatal(err)
	}
	return name
}

// start starts a recorder that ends with the test.
func start(t *testing.T, flags ...string) *cluster.Recorder {
	t.Helper()
	return startWith(t, kubeconfig, flags...)
}

func startWith(t *testing.T, kubeconfig string, flags ...string) *cluster.Recorder {
	t.Helper()
	r, err := controlPlane.StartRecorder(t.Context(), os.Stderr, kubeconfig, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(r.Log())
			t.Logf("%s", log[max(0, len(log)-2000):])
		}
	})
	return r
}

func driver(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	return must(kubelet.Driver(t.Context(), namespace, name))(t)
}

func executor(t *testing.T, driver *corev1.Pod, id int) *corev1.Pod {
	t.Helper()
	return must(kubelet.Executor(t.Context(), driver, id))(t)
}

func die(t *testing.T, p *corev1.Pod, reason string, code int32) *corev1.Pod {
	t.Helper()
	return must(kubelet.Die(t.Context(), p, reason, code))(t)
}

func remove(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if err := kubelet.Remove(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func live(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	return must(kubelet.CoreV1().Pods(p.Namespace).Get(t.Context(), p.Name, metav1.GetOptions{}))(t)
}

// condition returns the condition of a driver's death, or nil.
func condition(t *testing.T, p *corev1.Pod) *corev1.PodCondition {
	t.Helper()
	for _, c := range live(t, p).Status.Conditions {
		if c.Type == annotations.DeathCondition {
			return &c
		}
	}
	return nil
}

// record reads the record on a driver.
func record(t *testing.T, p *corev1.Pod) oom.Record {
	t.Helper()
	return must(oom.Read(live(t, p).Annotations))(t)
}

// counted waits until a driver's record counts n executors with a cause.
func counted(t *testing.T, driver *corev1.Pod, cause oom.Cause, n int) {
	t.Helper()
	var last oom.Record
	eventually.True(t, fmt.Sprintf("%d of %s on %s", n, cause, driver.Name), func() bool {
		last = record(t, driver)
		return last.Count(spark.Executor, cause) >= n
	})
	if got := last.Count(spark.Executor, cause); got != n {
		t.Fatalf("%s counts %d of %s, and there were %d", driver.Name, got, cause, n)
	}
}

// metric returns the sum of a metric's samples whose labels contain a text.
func metric(t *testing.T, r *cluster.Recorder, name, labels string) (sum float64) {
	t.Helper()
	var text string
	eventually.True(t, "the metrics of a recorder", func() bool { // it gives up an answer that takes 10 s
		var err error
		text, err = r.Metrics(t.Context())
		return err == nil
	})
	for _, line := range regexp.MustCompile(`(?m)^`+name+`(\{.*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
		if strings.Contains(line[1], labels) {
			sum += must(strconv.ParseFloat(line[2], 64))(t)
		}
	}
	return sum
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
