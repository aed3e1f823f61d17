package patches_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// driverOf returns a captured driver with a limit of 896 MiB, and its choice.
func driverOf(t *testing.T) (spark.Pod, policy.Choice) {
	t.Helper()
	pod := &corev1.Pod{}
	decode(t, captured.Named("spark-3.5.9/driver").Object(), pod)
	driver, err := spark.PodOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	ceiling := resource.MustParse("4Gi")
	return driver, policy.Choice{
		Mode: policy.Enabled, Rule: &policy.Rule{Name: "r", Remedy: &policy.Remedy{NextRun: policy.Enabled, MaxMemory: &ceiling}},
		Memory: &annotations.RemedyMemory{FromLimitMiB: 896, ToLimitMiB: 1459, FromHeapMiB: 512, ToHeapMiB: 1024},
	}
}

// A driver gets the memory that an earlier run needed, up to the rule's ceiling. Its
// request stays, and a second round changes nothing.
func TestNextRun(t *testing.T) {
	const asked = "896Mi"
	for name, c := range map[string]struct {
		change func(spark.Pod, *policy.Choice)
		limit  string
		heap   string // "" if its arguments stay
		left   string
	}{
		"heap": {func(spark.Pod, *policy.Choice) {}, "1459Mi", "1024m", ""},
		"beside it": {func(_ spark.Pod, c *policy.Choice) {
			c.Memory.ToLimitMiB, c.Memory.ToHeapMiB = 1408, 512
		}, "1408Mi", "", ""},
		"a ceiling": {func(_ spark.Pod, c *policy.Choice) {
			*c.Rule.Remedy.MaxMemory = resource.MustParse("1200Mi")
		}, "1200Mi", "765m", ""},
		"a ceiling below": {func(_ spark.Pod, c *policy.Choice) {
			*c.Rule.Remedy.MaxMemory = resource.MustParse("896Mi")
		}, asked, "", "the rule's maxMemory allows no more"},
		"audit":           {func(_ spark.Pod, c *policy.Choice) { c.Rule.Remedy.NextRun = policy.Audit }, asked, "", "it would have a limit of 1459 MiB instead of 896 and a heap of 1024 MiB instead of 512"},
		"the rule is off": {func(_ spark.Pod, c *policy.Choice) { c.Rule.Remedy.NextRun = policy.Disabled }, asked, "", ""},
		"nothing needed":  {func(_ spark.Pod, c *policy.Choice) { c.Memory = nil }, asked, "", ""},
		"not known":       {func(_ spark.Pod, c *policy.Choice) { c.NoRemedy = "the webhook cannot watch SparkJobs now" }, asked, "", "cannot watch"},
		"another limit":   {func(_ spark.Pod, c *policy.Choice) { c.Memory.FromLimitMiB = 900 }, asked, "", "its limit is not the 900 MiB of the earlier run"},
		"its own heap": {func(p spark.Pod, _ *policy.Choice) {
			p.Container().Args = slices.Insert(p.Container().Args, 1, "--driver-memory", "600m")
		}, asked, "", "its heap is in its arguments"},
		"its own command": {func(p spark.Pod, _ *policy.Choice) { p.Container().Command = []string{"/run.sh"} }, asked, "", "spark-submit did not make it"},
		"a long name":     {func(p spark.Pod, _ *policy.Choice) { p.Name = strings.Repeat("x", 254) }, asked, "", "too long"},
		"no name":         {func(p spark.Pod, _ *policy.Choice) { p.Name = "" }, asked, "", "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			driver, choice := driverOf(t)
			c.change(driver, &choice)
			before := slices.Clone(driver.Container().Args)
			for range 2 { // the second round of a reinvocation
				result := patches.Apply(driver, choice)
				resources := driver.Container().Resources
				if resources.Limits.Memory().String() != c.limit || resources.Requests.Memory().String() != asked {
					t.Errorf("limit %s, request %s", resources.Limits.Memory(), resources.Requests.Memory())
				}
				want := before
				if c.heap != "" {
					want = slices.Insert(slices.Clone(before), 1, "--conf", "spark.driver.memory="+c.heap)
				}
				if got := driver.Container().Args; !slices.Equal(got, want) {
					t.Errorf("arguments %q", got)
				}
				left := ""
				for _, l := range result.Left {
					if l.Field == "remedy" {
						left = l.Why
					}
				}
				if !strings.Contains(left, c.left) || c.left == "" && left != "" {
					t.Errorf("left: %q", left)
				}
				if c.heap != "" && driver.Annotations[annotations.MemoryHeap] != "" && driver.Memory().Heap>>20 == 512 {
					t.Error("the heap is not known from the arguments")
				}
			}
		})
	}
}

// What an earlier round gave stays if the job is not known any more.
func TestNextRunAgain(t *testing.T) {
	driver, choice := driverOf(t)
	patches.Apply(driver, choice)
	stamp := driver.Annotations[annotations.Remedied]
	choice.Memory, choice.NoRemedy = nil, "the webhook cannot watch SparkJobs now"
	if again := patches.Apply(driver, choice); len(again.Operations) > 0 || stamp == "" || driver.Annotations[annotations.Remedied] != stamp {
		t.Error(again.Operations, driver.Annotations)
	}
}

// If another webhook lowers the limit again, the heap goes back too.
func TestNextRunUndone(t *testing.T) {
	driver, choice := driverOf(t)
	before := slices.Clone(driver.Container().Args)
	patches.Apply(driver, choice)
	driver.Container().Resources.Limits[corev1.ResourceMemory] = resource.MustParse("1000Mi")
	for range 2 {
		patches.Apply(driver, choice)
		if limit := driver.Container().Resources.Limits.Memory().String(); !slices.Equal(driver.Container().Args, before) || limit != "1000Mi" || driver.Annotations[annotations.Remedied] != "" {
			t.Errorf("limit %s, %q, %v", limit, driver.Container().Args, driver.Annotations)
		}
	}
}
