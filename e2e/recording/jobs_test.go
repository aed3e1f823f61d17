package recording

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

const (
	testedJobs, runsOfEach = 10, 25
	lostRecorderAt         = 5              // runs, after which one recorder is killed
	mostWrites             = 2 * runsOfEach // of a job: the end of a run, and what became known later
)

// Two recorders, one of which is killed and comes back, count each run once, with what
// died in it. While the API server knows no SparkJobs, they record deaths all the same.
func TestRunsOfJobs(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	kubeconfig := allowJobs(t)
	first, second := startWith(t, kubeconfig, "--spark-jobs"), startWith(t, kubeconfig, "--spark-jobs")

	before := runOf(t, namespace, "before", "early")
	executorsDie(t, before, 2)
	die(t, before, "OOMKilled", 137)
	counted(t, before, oom.OOMKilled, 2)
	eventually.True(t, "the recorder says that there are no SparkJobs", func() bool {
		log := must(os.ReadFile(first.Log()))(t)
		return bytes.Count(log, []byte("does not know SparkJobs")) == 1
	})

	jobs := defineJobs(t)
	first.Stop() // it would ask for them again after five minutes
	second.Stop()
	for _, r := range []*cluster.Recorder{first, second} {
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var tasks errgroup.Group
	for j := range testedJobs {
		tasks.Go(func() error {
			for i := range runsOfEach {
				if err := night(t.Context(), namespace, fmt.Sprintf("job-%d", j), i); err != nil {
					return err
				}
				if j == 0 && i == lostRecorderAt {
					second.Kill()
				}
			}
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for j := range testedJobs {
		name := fmt.Sprintf("job-%d", j)
		eventually.Succeeds(t, "all runs of "+name, func(ctx context.Context) error {
			object, err := jobs.Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			return isWhole(object)
		})
	}
	if n := metric(t, first, "spark_vitals_recorder_errors_total", "job"); n != 0 {
		t.Errorf("%v calls about jobs failed", n)
	}
}

// isWhole returns nil if a job has its last 20 nights, each once: of every five one whose
// driver was killed, one that failed, and three that were good, each after the death of an
// executor.
func isWhole(object *unstructured.Unstructured) error {
	status, err := sparkjob.Read(object.Object)
	if err != nil {
		return err
	}
	states, seen := map[sparkjob.State]int{}, map[types.UID]bool{}
	for _, r := range status.Runs {
		states[r.State]++
		seen[r.UID] = true
		if len(r.Deaths) == 0 || r.Deaths[len(r.Deaths)-1].Role != spark.Executor {
			return fmt.Errorf("the run %s has the deaths %+v", r.Driver, r.Deaths)
		}
	}
	if len(seen) != sparkjob.DefaultRuns || len(status.Runs) != sparkjob.DefaultRuns || states[sparkjob.Killed] != 4 || states[sparkjob.Failed] != 4 || states[sparkjob.Succeeded] != 12 {
		return fmt.Errorf("%d runs, %d drivers: %v", len(status.Runs), len(seen), states)
	}
	if n := object.GetGeneration(); n > mostWrites { // each write of a job is a generation
		return fmt.Errorf("it was written %d times for %d runs", n, runsOfEach)
	}
	text, err := json.Marshal(object)
	if err == nil && len(text) > sparkjob.MaxBytes+4<<10 {
		return fmt.Errorf("it has %d bytes", len(text))
	}
	return err
}

// night is a run of a job: an executor dies, and the driver ends. Every second driver is
// deleted, as operators do.
func night(ctx context.Context, namespace, job string, i int) error {
	driver, err := kubelet.Driver(ctx, namespace, fmt.Sprintf("%s-%d", job, i))
	if err == nil {
		err = annotate(ctx, driver, job)
	}
	if err != nil {
		return err
	}
	executor, err := kubelet.Executor(ctx, driver, 1)
	if err == nil {
		executor, err = kubelet.Die(ctx, executor, "OOMKilled", 137)
	}
	if err == nil {
		err = kubelet.Remove(ctx, executor)
	}
	if err != nil {
		return err
	}
	how := map[int]struct {
		reason string
		code   int32
	}{0: {"OOMKilled", 137}, 1: {"Error", 1}, 2: {"Completed", 0}, 3: {"Completed", 0}, 4: {"Completed", 0}}[i%5]
	if err := recorded(ctx, driver); err != nil {
		return err
	}
	driver, err = kubelet.Die(ctx, driver, how.reason, how.code)
	if err == nil && i%2 == 0 {
		err = kubelet.Remove(ctx, driver)
	}
	return err
}

// recorded waits until the death of the executor is on the driver: with the driver's pod
// a record goes that nobody has written.
func recorded(ctx context.Context, driver *corev1.Pod) error {
	for ctx.Err() == nil {
		p, err := kubelet.CoreV1().Pods(driver.Namespace).Get(ctx, driver.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Annotations[annotations.OOM] != "" {
			return nil
		}
	}
	return ctx.Err()
}

func annotate(ctx context.Context, driver *corev1.Pod, job string) error {
	body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, annotations.Job, job)
	_, err := kubelet.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

func runOf(t *testing.T, namespace, name, job string) *corev1.Pod {
	t.Helper()
	d := driver(t, namespace, name)
	if err := annotate(t.Context(), d, job); err != nil {
		t.Fatal(err)
	}
	return d
}

func executorsDie(t *testing.T, driver *corev1.Pod, n int) {
	t.Helper()
	for id := range n {
		die(t, executor(t, driver, id+1), "OOMKilled", 137)
	}
}

// allowJobs returns a kubeconfig of a recorder's account with the rights that the chart
// gives it with sparkJobs.enabled.
func allowJobs(t *testing.T) string {
	t.Helper()
	if err := controlPlane.Namespace(t.Context(), "jobs", nil); err != nil {
		t.Fatal(err)
	}
	rights, err := helm.Rights("jobs", "recorder", map[string]any{"sparkJobs": map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	return must(controlPlane.Allow(t.Context(), rights, ""))(t)
}

// defineJobs makes the CustomResourceDefinition, and waits until it is served.
func defineJobs(t *testing.T) dynamic.NamespaceableResourceInterface {
	t.Helper()
	client := must(dynamic.NewForConfig(controlPlane.Config))(t)
	text := must(os.ReadFile(filepath.Join(must(cluster.Root())(t), "charts", "spark-vitals", "files", "sparkjobs.yaml")))(t)
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &definition.Object); err != nil {
		t.Fatal(err)
	}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(t.Context(), definition, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		t.Fatal(err)
	}
	jobs := client.Resource(sparkjob.Resource)
	eventually.Succeeds(t, "SparkJobs are served", func(ctx context.Context) error {
		_, err := jobs.List(ctx, metav1.ListOptions{})
		return err
	})
	return jobs
}
