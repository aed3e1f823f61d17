package stories

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// app is the application that a story submits.
type app struct {
	file, class      string
	args             []string
	conf             map[string]string
	variant          image.Variant
	driver, executor string // pod templates, as YAML
}

// run is one submission of an app, with or without spark-vitals.
type run struct {
	lab.App
	*lab.History
	with bool
	// failed is how many liveness checks of the driver had failed when it was
	// found healthy before it hung.
	failed int
}

// endsWithin is the longest time that an application may take.
const endsWithin = 20 * time.Minute

// submit makes a namespace, opted in or not, watches it, and submits the app there.
func submit(t *testing.T, name, version string, a app, with bool) *run {
	t.Helper()
	r := prepare(t, name, version, a, with)
	if err := theLab.Submit(t.Context(), r.App); err != nil {
		t.Fatal(err)
	}
	if with {
		r.checkInjected(t)
	}
	return r
}

// prepare does what submit does, without submitting.
func prepare(t *testing.T, name, version string, a app, with bool) *run {
	t.Helper()
	labels, suffix := map[string]string{}, "without"
	if with {
		labels[annotations.Inject], suffix = "enabled", "with"
	}
	r := &run{with: with, App: lab.App{
		Namespace: fmt.Sprintf("%s-%s-%s", name, strings.ReplaceAll(version, ".", ""), suffix),
		Name:      "app", Version: version, Variant: a.variant, File: a.file, Class: a.class, Args: a.args, Conf: maps.Clone(a.conf),
	}}
	if r.Conf == nil {
		r.Conf = map[string]string{}
	}
	for role, template := range map[string]string{"driver": a.driver, "executor": a.executor} {
		if template != "" {
			r.Conf["spark.kubernetes."+role+".podTemplateFile"] = writeTemplate(t, role, strings.ReplaceAll(template, "IMAGE", image.Name(version, a.variant)))
		}
	}
	r.begin(t, labels)
	return r
}

// begin makes the namespace of a run and watches it until the story ends.
func (r *run) begin(t *testing.T, labels map[string]string) {
	t.Helper()
	if err := theLab.NewNamespace(t.Context(), r.Namespace, labels); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.keep(t)
		}
		remove(t, r.Namespace)
	})
	var err error
	if r.History, err = theLab.Watch(t.Context(), r.Namespace); err != nil {
		t.Fatal(err)
	}
}

// checkInjected checks that the webhook was called and applied the expected rule.
// Otherwise a story with spark-vitals tests nothing.
func (r *run) checkInjected(t *testing.T) {
	t.Helper()
	driver, err := spark.PodOf(r.driverPod(t))
	if err != nil {
		t.Fatal(err)
	}
	var stamp struct {
		Rule string
		Set  []string
	}
	text := driver.Annotations[annotations.Injected]
	if err := json.Unmarshal([]byte(text), &stamp); err != nil {
		open, why := theLab.FailedOpen(t.Context())
		t.Fatalf("%s: the driver's stamp is %q: %v; the API server has gone on without the webhook %d times (%v)", r.Namespace, text, err, open, why)
	}
	_, fast := r.Conf["spark.kubernetes.driver.label."+lab.FastLabel]
	if strings.HasPrefix(stamp.Rule, "fast-") != fast || len(stamp.Set) == 0 {
		t.Fatalf("%s: the driver's stamp is %s", r.Namespace, text)
	}
	if !driver.Spec.HostNetwork && r.Conf[livenessOff] != "false" && driver.Container().LivenessProbe == nil {
		t.Fatalf("%s: the driver has no liveness probe, by its stamp %s", r.Namespace, text)
	}
}

// checkExecutors checks that each executor has our stamp.
func (r *run) checkExecutors(t *testing.T) {
	t.Helper()
	r.Look(func(h *lab.History) {
		for _, p := range h.Pods(spark.Executor) {
			if p.Last.Annotations[annotations.Injected] == "" {
				t.Errorf("%s/%s was not injected", r.Namespace, p.Last.Name)
			}
		}
	})
}

// both submits the app with and without spark-vitals at the same time, so that both
// share the machine.
func both(t *testing.T, name, version string, a app) (with, without *run) {
	t.Helper()
	var wait sync.WaitGroup
	wait.Go(func() { with = submit(t, name, version, a, true) })
	wait.Go(func() { without = submit(t, name, version, a, false) })
	wait.Wait()
	if with == nil || without == nil {
		t.FailNow()
	}
	return with, without
}

func writeTemplate(t *testing.T, role, template string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), role+".yaml")
	if err := os.WriteFile(path, []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// until waits for a condition, and fails the story if it takes too long.
func (r *run) until(t *testing.T, what string, holds func(*lab.History) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endsWithin)
	defer cancel()
	if err := r.Until(ctx, what, holds); err != nil {
		t.Fatalf("%s: %v", r.Namespace, err)
	}
}

// untilDriverEnds waits until the driver has ended and the kubelet has written its last
// status.
func (r *run) untilDriverEnds(t *testing.T) {
	t.Helper()
	r.until(t, "the driver has ended", func(h *lab.History) bool {
		driver := h.Driver()
		return driver.Terminated() != nil && driver.Last.Status.Phase != corev1.PodRunning || driver != nil && driver.Deleted
	})
	if r.with {
		r.checkExecutors(t)
	}
}

// untilLog waits until the driver's log has a line.
func (r *run) untilLog(t *testing.T, line string) {
	t.Helper()
	for end := time.Now().Add(endsWithin); ; time.Sleep(500 * time.Millisecond) {
		ended := r.driverEnd() != nil
		if strings.Contains(r.log(t), line) {
			return
		}
		if ended || time.Now().After(end) {
			t.Fatalf("%s: the driver's log has no line %q; it has ended: %t, because a probe failed: %t", r.Namespace, line, ended, r.killed())
		}
	}
}

// log returns the log of the driver so far, or "".
func (r *run) log(t *testing.T) (log string) {
	t.Helper()
	container := ""
	r.Look(func(h *lab.History) {
		if h.Driver() != nil {
			if pod, err := spark.PodOf(h.Driver().Last); err == nil {
				container = pod.Container().Name
			}
		}
	})
	if container != "" {
		eventually.Succeeds(t, "the driver's log can be read", func(context.Context) (err error) {
			log, err = theLab.Log(t.Context(), r.Namespace, r.DriverName(), container)
			return err
		})
	}
	return log
}

// logOf returns the log of the only pod of a role.
func (r *run) logOf(t *testing.T, role string) string {
	t.Helper()
	var pod *corev1.Pod
	r.Look(func(h *lab.History) {
		if pods := h.Pods(spark.Role(role)); len(pods) > 0 {
			pod = pods[0].Last.DeepCopy()
		}
	})
	if pod == nil {
		t.Fatalf("%s: there is no %s", r.Namespace, role)
	}
	log, err := theLab.Log(t.Context(), r.Namespace, pod.Name, "spark-kubernetes-"+role)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// driverPod waits for the driver's pod and returns it as last seen.
func (r *run) driverPod(t *testing.T) (pod *corev1.Pod) {
	t.Helper()
	r.until(t, "there is a driver", func(h *lab.History) bool {
		if driver := h.Driver(); driver != nil {
			pod = driver.Last.DeepCopy()
		}
		return pod != nil
	})
	return pod
}

// keep writes the pods, Events and logs of a run to the artifacts.
func (r *run) keep(t *testing.T) {
	dir := filepath.Join(artifacts, t.Name(), r.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Log(err)
		return
	}
	ctx := context.Background()
	if events, err := theLab.Client.CoreV1().Events(r.Namespace).List(ctx, metav1.ListOptions{}); err == nil {
		keepYAML(t, filepath.Join(dir, "events.yaml"), events)
	}
	r.Look(func(h *lab.History) {
		for _, role := range []spark.Role{spark.Driver, spark.Executor, ""} {
			for _, pod := range h.Pods(role) {
				keepYAML(t, filepath.Join(dir, pod.Last.Name+".yaml"), pod.Last)
			}
		}
	})
	var pods []*corev1.Pod
	r.Look(func(h *lab.History) {
		for _, p := range slices.Concat(h.Pods(spark.Driver), h.Pods(spark.Executor), h.Pods("")) {
			pods = append(pods, p.Last.DeepCopy())
		}
	})
	ours, err := theLab.Client.CoreV1().Pods(lab.Namespace).List(ctx, metav1.ListOptions{})
	if err == nil {
		for i := range ours.Items {
			pods = append(pods, &ours.Items[i])
		}
	}
	for _, pod := range pods {
		for _, container := range pod.Spec.Containers {
			if log, err := theLab.Log(ctx, pod.Namespace, pod.Name, container.Name); err == nil {
				_ = os.WriteFile(filepath.Join(dir, pod.Name+"."+container.Name+".log"), []byte(log), 0o600)
			}
		}
	}
	t.Logf("pods, Events and logs are in %s", dir)
}

func keepYAML(t *testing.T, path string, object any) {
	text, err := yaml.Marshal(object)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Log(err)
	}
}

// remove removes a namespace when a story ends.
func remove(t *testing.T, namespace string) {
	if err := theLab.RemoveNamespace(context.Background(), namespace); err != nil {
		t.Log(err)
	}
}
