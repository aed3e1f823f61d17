package oom_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Each file of testdata/causes is a pod as a kubelet reports it: why the case exists
// and its source, a captured pod, a patch on it, its status, and whether the kubelet
// sent an Event about stopping it; for a driver also how its executors ended before.
// The part "want" has what the record says. The file's name begins with the cause.
func TestCauses(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range golden.Files(t, "testdata/causes/*.txtar") {
		cause, _, _ := strings.Cut(file.Name, "-")
		seen[cause] = true
		t.Run(file.Name, func(t *testing.T) {
			if !strings.Contains(string(file.Comment), "Source: ") {
				t.Errorf("%s does not say where it comes from", file.Path)
			}
			got := described(t, evidence(t, file), executors(t, file))
			if !strings.Contains(strings.ToLower(got), ": "+cause+",") {
				t.Errorf("%s is not %s:\n%s", file.Path, cause, got)
			}
			file.Check(t, "want", got)
		})
	}
	for _, cause := range oom.EveryCause() {
		if !seen[strings.ToLower(string(cause))] {
			t.Errorf("the cause %s has no golden file", cause)
		}
	}
}

func evidence(t *testing.T, file golden.File) oom.Evidence {
	t.Helper()
	var e oom.Evidence
	object := captured.Named(strings.TrimSpace(string(file.Part("captured")))).Object()
	for _, patch := range []map[string]any{readYAML(t, file.Part("tweak.yaml")), {"status": readYAML(t, file.Part("status.yaml"))}} {
		object = must(strategicpatch.StrategicMergePatch(object, must(json.Marshal(patch))(t), corev1.Pod{}))(t)
	}
	e.Pod = &corev1.Pod{}
	if err := json.Unmarshal(object, e.Pod); err != nil {
		t.Fatal(err)
	}
	if e.UID == "" {
		e.UID = types.UID("0a1b2c3d-0000-4000-8000-000000000000")
	}
	if e.CreationTimestamp.IsZero() {
		e.CreationTimestamp = metav1.NewTime(time.Date(2026, 11, 21, 8, 30, 0, 0, time.UTC))
	}
	e.Killing = file.Part("killing") != nil
	return e
}

// executors returns executors that ended before the driver of a golden file, numbered
// from 1.
func executors(t *testing.T, file golden.File) (all []oom.Evidence) {
	t.Helper()
	var ends []corev1.ContainerStateTerminated
	if err := yaml.UnmarshalStrict(file.Part("executors.yaml"), &ends); err != nil {
		t.Fatal(err)
	}
	for i := range ends {
		p := capturedPod(t, "spark-3.5.9/executor").DeepCopy()
		p.Labels[spark.ExecutorIDLabel] = strconv.Itoa(i + 1)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: spark.ExecutorContainer, State: corev1.ContainerState{Terminated: &ends[i]}}}
		all = append(all, oom.Evidence{Pod: p})
	}
	return all
}

// described returns the terminations and what the record makes of them.
func described(t *testing.T, e oom.Evidence, executors []oom.Evidence) string {
	t.Helper()
	driver := pod(t, e.Pod)
	if driver.Role != spark.Driver {
		driver = capturedPod(t, "spark-3.5.9/driver")
	}
	terminations := oom.Terminations(e)
	var out strings.Builder
	if len(terminations) == 0 {
		out.WriteString("nothing: none, no death\n")
	}
	for _, end := range oom.Ended(e) {
		fmt.Fprintf(&out, "%s: ended with exit code %d, counted as %d of %s\n", &end, *end.ExitCode, end.Number, end.Set)
	}
	if len(terminations) == 0 {
		return out.String()
	}
	var record oom.Record
	for _, e := range executors {
		record.Add(slices.Concat(oom.Terminations(e), oom.Ended(e))...)
	}
	for i := range terminations {
		d := &terminations[i]
		code := "never ran"
		if d.ExitCode != nil {
			code = fmt.Sprintf("exit code %d", *d.ExitCode)
		}
		fmt.Fprintf(&out, "%s: %s, %s, counted as %d of %s\n", d, d.Cause, code, d.Number, d.Set)
		if d.Said != "" {
			fmt.Fprintf(&out, "  said: %s\n", d.Said)
		}
		if d.LocalDirsInMemory {
			out.WriteString("  its local files lie in memory\n")
		}
		if d.OnOutOfMemory != "" {
			fmt.Fprintf(&out, "  its JVM ends so by %s\n", d.OnOutOfMemory)
		}
	}
	record.Add(terminations...)
	all := record.Annotations(driver, oom.Plenty)
	checkSchema(t, all[annotations.OOM])
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if key != annotations.OOM {
			fmt.Fprintf(&out, "%s: %s\n", strings.TrimPrefix(key, annotations.Prefix), all[key])
		}
	}
	return out.String()
}

func readYAML(t *testing.T, text []byte) (object map[string]any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func capturedPod(t *testing.T, name string) spark.Pod {
	t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal(captured.Named(name).Object(), &p); err != nil {
		t.Fatal(err)
	}
	return pod(t, &p)
}

func pod(t *testing.T, p *corev1.Pod) spark.Pod {
	t.Helper()
	return must(spark.PodOf(p))(t)
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
