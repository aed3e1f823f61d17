package oom_test

import (
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// reason matches the reasons that Kubernetes allows in a condition.
var reason = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)

// A driver has the condition exactly if it has the state, and the condition says what
// the annotations say.
func TestCondition(t *testing.T) {
	with, without := 0, 0
	for _, file := range golden.Files(t, "testdata/causes/*.txtar") {
		e := evidence(t, file)
		driver, err := spark.PodOf(e.Pod)
		if err != nil || driver.Role != spark.Driver {
			continue
		}
		var record oom.Record
		record.Add(oom.Terminations(e)...)
		all, c := record.Annotations(driver, oom.Plenty), record.Condition(driver)
		if all[annotations.State] == "" {
			without++
			if c != nil {
				t.Errorf("%s: %+v without a state", file.Path, c)
			}
			continue
		}
		with++
		want := corev1.PodCondition{
			Type: "spark-vitals.io/Death", Status: corev1.ConditionTrue, LastTransitionTime: record.Driver.At,
			Reason: all[annotations.Reason], Message: all[annotations.Message],
		}
		if c == nil || *c != want || len(c.Message) > 1<<10 || c.LastTransitionTime.IsZero() {
			t.Errorf("%s: %+v, want %+v", file.Path, c, want)
		}
	}
	if with < 20 || without == 0 {
		t.Errorf("%d drivers with a state and %d without", with, without)
	}
	for _, cause := range oom.EveryCause() {
		if got := "Driver" + string(cause); !reason.MatchString(got) {
			t.Errorf("%s is no reason of a condition", got)
		}
	}
}
