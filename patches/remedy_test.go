package patches_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// executorOf returns a captured executor with so many cores, and a plan for it.
func executorOf(t *testing.T, cores string) (spark.Pod, *annotations.RemedyPlan) {
	t.Helper()
	pod := &corev1.Pod{}
	decode(t, captured.Named("spark-3.5.9/executor").Object(), pod)
	executor, err := spark.PodOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range executor.Container().Env {
		if e.Name == spark.ExecutorCores {
			executor.Container().Env[i].Value = cores
		}
	}
	return executor, &annotations.RemedyPlan{
		Application: executor.Application(), Profile: executor.ResourceProfile(), Mode: annotations.Enabled, FromCores: 4, ToCores: 2,
	}
}

// An executor gets the cores of its plan if the plan is for it, the rule and the plan
// are enabled, and the driver's plans are known.
func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*policy.Choice)
		cores  string // the executor's
		want   int
		stamp  string
	}{
		"changed":              {func(*policy.Choice) {}, "4", 2, `{"fromCores":4,"toCores":2}`},
		"other cores":          {func(*policy.Choice) {}, "3", 3, ""},
		"fewer cores already":  {func(*policy.Choice) {}, "2", 2, ""},
		"no plan":              {func(c *policy.Choice) { c.Plan = nil }, "4", 4, ""},
		"plan in audit":        {func(c *policy.Choice) { c.Plan.Mode = policy.Audit }, "4", 4, `{"mode":"audit","fromCores":4,"toCores":2}`},
		"rule in audit":        {func(c *policy.Choice) { c.Rule.Remedy.Mode = policy.Audit }, "4", 4, `{"mode":"audit","fromCores":4,"toCores":2}`},
		"rule is off":          {func(c *policy.Choice) { c.Rule.Remedy.Mode = policy.Disabled }, "4", 4, ""},
		"plans are not known":  {func(c *policy.Choice) { c.NoRemedy = "the webhook does not know all drivers yet" }, "4", 4, ""},
		"another application":  {func(c *policy.Choice) { c.Plan.Application = "spark-2" }, "4", 4, ""},
		"another profile":      {func(c *policy.Choice) { c.Plan.Profile = "1" }, "4", 4, ""},
		"a plan that does not": {func(c *policy.Choice) { c.Plan.ToCores = 4 }, "4", 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			executor, plan := executorOf(t, c.cores)
			choice := policy.Choice{Mode: policy.Enabled, Rule: &policy.Rule{Name: "r", Remedy: &policy.Remedy{Mode: policy.Enabled, AfterDeaths: 2}}, Plan: plan}
			c.change(&choice)
			patches.Apply(executor, choice)
			if executor.Cores() != c.want || executor.Annotations[annotations.Remedied] != c.stamp {
				t.Errorf("%d cores, stamp %s", executor.Cores(), executor.Annotations[annotations.Remedied])
			}
			// The second round of a reinvocation, with or without the plan.
			for range 2 {
				if again := patches.Apply(executor, choice); len(again.Operations) > 0 && c.stamp != "" && executor.Cores() != c.want {
					t.Error(again.Operations)
				}
				if got := executor.Annotations[annotations.Remedied]; executor.Cores() != c.want || got != c.stamp && choice.Plan != nil {
					t.Errorf("again: %d cores, stamp %s", executor.Cores(), got)
				}
				if c.want == 2 && c.stamp != "" {
					choice.Plan, choice.NoRemedy = nil, "the webhook does not know all drivers yet"
				}
			}
		})
	}
}

// With more memory the container's limit rises, and the heap if it was full.
func TestPlanOfMemory(t *testing.T) {
	for name, c := range map[string]struct {
		from, to annotations.RemedyMemory // only limit and heap count
		ceiling  string
		limit    string
		heap     string
	}{
		"heap":          {annotations.RemedyMemory{FromLimitMiB: 896, FromHeapMiB: 512}, annotations.RemedyMemory{ToLimitMiB: 1459, ToHeapMiB: 1024}, "4Gi", "1459Mi", "1024m"},
		"beside it":     {annotations.RemedyMemory{FromLimitMiB: 896, FromHeapMiB: 512}, annotations.RemedyMemory{ToLimitMiB: 1408, ToHeapMiB: 512}, "4Gi", "1408Mi", "512m"},
		"other limit":   {annotations.RemedyMemory{FromLimitMiB: 900, FromHeapMiB: 512}, annotations.RemedyMemory{ToLimitMiB: 1408, ToHeapMiB: 512}, "4Gi", "896Mi", "512m"},
		"other heap":    {annotations.RemedyMemory{FromLimitMiB: 896, FromHeapMiB: 600}, annotations.RemedyMemory{ToLimitMiB: 1408, ToHeapMiB: 600}, "4Gi", "896Mi", "512m"},
		"lower ceiling": {annotations.RemedyMemory{FromLimitMiB: 896, FromHeapMiB: 512}, annotations.RemedyMemory{ToLimitMiB: 1408, ToHeapMiB: 512}, "1Gi", "896Mi", "512m"},
	} {
		t.Run(name, func(t *testing.T) {
			executor, plan := executorOf(t, "1")
			plan.FromCores, plan.ToCores = 1, 1
			plan.Memory = &annotations.RemedyMemory{FromLimitMiB: c.from.FromLimitMiB, FromHeapMiB: c.from.FromHeapMiB, ToLimitMiB: c.to.ToLimitMiB, ToHeapMiB: c.to.ToHeapMiB}
			ceiling := resource.MustParse(c.ceiling)
			choice := policy.Choice{Mode: policy.Enabled, Rule: &policy.Rule{Name: "r", Remedy: &policy.Remedy{Mode: policy.Enabled, AfterDeaths: 2, MaxMemory: &ceiling}}, Plan: plan}
			for range 2 { // the second round of a reinvocation
				patches.Apply(executor, choice)
				resources := executor.Container().Resources
				heap, _ := executor.Env(spark.ExecutorMemory)
				if got := resources.Limits.Memory().String(); got != c.limit || resources.Requests.Memory().String() != "896Mi" || heap != c.heap {
					t.Errorf("limit %s, request %s, heap %s", got, resources.Requests.Memory(), heap)
				}
				if stamped := executor.Annotations[annotations.Remedied] != ""; stamped != (c.limit != "896Mi") {
					t.Errorf("stamp %q", executor.Annotations[annotations.Remedied])
				}
			}
		})
	}
}
