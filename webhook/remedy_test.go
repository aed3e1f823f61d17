package webhook

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// unknown are plans that are not known, for example because the cluster cannot be watched.
type unknown struct{ plans }

func (unknown) Unknown() string { return "the webhook does not know all drivers yet" }

// fourCores returns a captured executor with four cores.
func fourCores(t *testing.T) (object []byte, executor spark.Pod) {
	t.Helper()
	object = bytes.Replace(captured.Named("spark-3.5.9/executor").Object(), []byte(`"SPARK_EXECUTOR_CORES","value":"1"`), []byte(`"SPARK_EXECUTOR_CORES","value":"4"`), 1)
	var pod corev1.Pod
	if err := json.Unmarshal(object, &pod); err != nil {
		t.Fatal(err)
	}
	executor, err := spark.PodOf(&pod)
	if err != nil || executor.Cores() != 4 {
		t.Fatal(executor, err)
	}
	return object, executor
}

// An executor gets the cores of its driver's plan, and is made as Spark asked if no plan
// is known.
func TestRemedy(t *testing.T) {
	p, err := policy.Parse([]byte("rules: [{name: e, match: {role: executor}, remedy: {mode: enabled}}]"))
	if err != nil {
		t.Fatal(err)
	}
	object, executor := fourCores(t)
	owner, _ := executor.Driver()
	plan := plans{owner.UID: {Application: executor.Application(), Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2}}
	for _, c := range []struct {
		name     string
		remedies Remedies
		changes  bool
		left     string
	}{
		{"a plan", plan, true, ""},
		{"no plan", plans{}, false, ""},
		{"unknown", unknown{plan}, false, "the webhook does not know all drivers yet"},
		{"no watch", nil, false, "the webhook does not watch drivers"},
	} {
		metrics := NewMetrics(prometheus.NewRegistry())
		h := &Handler{Policy: p, Metrics: metrics, Log: slog.New(slog.DiscardHandler), Remedies: c.remedies}
		request := creation("Pod", object)
		answer := h.Mutate(policy.Enabled).Handle(t.Context(), admission.Request{AdmissionRequest: *request})
		operations, err := json.Marshal(answer.Patches)
		if err != nil {
			t.Fatal(err)
		}
		if changes := strings.Contains(string(operations), "/env/"); !answer.Allowed || changes != c.changes || !strings.Contains(string(operations), c.left) {
			t.Errorf("%s: %s", c.name, operations)
		}
		if n := testutil.ToFloat64(metrics.remedied.WithLabelValues("executor", "enabled")); (n == 1) != c.changes {
			t.Errorf("%s: counted %v", c.name, n)
		}
	}
}

// needs are what the next drivers of all jobs are to get.
type needs struct {
	plans
	memory annotations.RemedyMemory
	gave   []string
}

func (n *needs) MemoryOf(spark.Pod, string) (*annotations.RemedyMemory, string) { return &n.memory, "" }

func (n *needs) Gave(driver spark.Pod, namespace string) {
	n.gave = append(n.gave, namespace+"/"+driver.Name)
}

// A driver gets the memory that an earlier run needed. A dry run gives nothing.
func TestNextRun(t *testing.T) {
	p, err := policy.Parse([]byte("rules: [{name: d, match: {role: driver}, remedy: {nextRun: enabled, maxMemory: 4Gi}}]"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		remedies := &needs{memory: annotations.RemedyMemory{FromLimitMiB: 896, ToLimitMiB: 1459, FromHeapMiB: 512, ToHeapMiB: 1024}}
		h := &Handler{Policy: p, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler), Remedies: remedies}
		request := creation("Pod", captured.Named("spark-3.5.9/driver").Object())
		request.DryRun = &dry
		answer := h.Mutate(policy.Enabled).Handle(t.Context(), admission.Request{AdmissionRequest: *request})
		operations, err := json.Marshal(answer.Patches)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(operations), `"spark.driver.memory=1024m"`) || !strings.Contains(string(operations), `/resources/limits/memory","value":"1459Mi"`) {
			t.Errorf("%s", operations)
		}
		if given := len(remedies.gave) == 1; given == dry {
			t.Errorf("dry run %t: %q", dry, remedies.gave)
		}
	}
}
