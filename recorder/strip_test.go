package recorder

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// For every way to die that package oom knows, a stripped pod shows the same as
// the whole one, and so does the record on a stripped driver; and what is
// stripped is small and stays as it is.
func TestStrippedTellsTheSame(t *testing.T) {
	files, err := filepath.Glob("../oom/testdata/causes/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		whole := died(t, file)
		stripped := stripOf(t, whole)
		for _, killing := range []bool{false, true} {
			want := terminationsOf(whole, killing)
			got := terminationsOf(stripped, killing)
			if d := cmp.Diff(want, got, cmp.AllowUnexported(oom.Termination{})); d != "" {
				t.Errorf("%s (-whole +stripped):\n%s", file, d)
			}
			if d := cmp.Diff(annotationsOn(t, whole, want), annotationsOn(t, stripped, got)); d != "" {
				t.Errorf("%s (-whole +stripped):\n%s", file, d)
			}
		}
		if d := cmp.Diff(applicationOfPod(t, whole), applicationOfPod(t, stripped), cmp.AllowUnexported(application{})); d != "" {
			t.Errorf("%s (-whole +stripped):\n%s", file, d)
		}
		if d := cmp.Diff(stripped, stripOf(t, stripped)); d != "" {
			t.Errorf("%s: stripping again changes it:\n%s", file, d)
		}
		if text, _ := json.Marshal(stripped); len(text) > 3<<10 {
			t.Errorf("%s: %d bytes remain", file, len(text))
		}
	}
}

func terminationsOf(p *corev1.Pod, killing bool) []oom.Termination {
	e := oom.Evidence{Pod: p, Killing: killing}
	return slices.Concat(oom.Terminations(e), oom.Ended(e))
}

// Whatever its owner makes of a pod, little of it is kept.
func TestStripIsSmall(t *testing.T) {
	p := generate.Bloated(spark.Driver, spark.DriverContainer)
	for _, key := range append(annotations.Death, annotations.Inject, annotations.Injected, oom.ExitException) {
		p.Annotations[key] = strings.Repeat("java.lang.OutOfMemoryError", 9<<10)
	}
	p.Annotations[annotations.OOM] = strings.Repeat("x", oom.MaxBytes)
	if text, _ := json.Marshal(strip(p)); len(text) > 100<<10 {
		t.Errorf("%d bytes remain", len(text))
	}
}

func annotationsOn(t *testing.T, p *corev1.Pod, terminations []oom.Termination) map[string]string {
	t.Helper()
	var record oom.Record
	record.Add(terminations...)
	return record.Annotations(podOf(t, p), oom.Plenty)
}

func applicationOfPod(t *testing.T, p *corev1.Pod) application { return applicationOf(podOf(t, p)) }

func podOf(t *testing.T, p *corev1.Pod) spark.Pod {
	t.Helper()
	pod, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func stripOf(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	return strip(p.DeepCopy())
}

// died is the pod of a golden of package oom.
func died(t *testing.T, path string) *corev1.Pod {
	t.Helper()
	file, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, f := range file.Files {
		parts[f.Name] = string(f.Data)
	}
	object := captured.Named(strings.TrimSpace(parts["captured"])).Object()
	for _, patch := range []string{parts["tweak.yaml"], "status:\n  " + strings.ReplaceAll(parts["status.yaml"], "\n", "\n  ")} {
		json, err := yaml.YAMLToJSON([]byte(patch))
		if err != nil {
			t.Fatal(err)
		}
		if string(json) == "null" {
			continue
		}
		if object, err = strategicpatch.StrategicMergePatch(object, json, corev1.Pod{}); err != nil {
			t.Fatal(path, err)
		}
	}
	p := &corev1.Pod{}
	if err := json.Unmarshal(object, p); err != nil {
		t.Fatal(err)
	}
	return p
}
