package remedy_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// executorIn returns an executor of a resource profile in a phase.
func executorIn(t *testing.T, phase corev1.PodPhase, profile string) spark.Pod {
	t.Helper()
	e, err := spark.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{spark.RoleLabel: "executor", "spark-exec-resourceprofile-id": profile}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: spark.ExecutorContainer}}},
		Status:     corev1.PodStatus{Phase: phase},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Executors of the profile that run or start count, and no others.
func TestIsShort(t *testing.T) {
	plan := annotations.RemedyPlan{Profile: "0", Memory: &annotations.RemedyMemory{Executors: 2}}
	running, pending, failed, other := executorIn(t, corev1.PodRunning, "0"), executorIn(t, corev1.PodPending, "0"), executorIn(t, corev1.PodFailed, "0"), executorIn(t, corev1.PodRunning, "1")
	leaving := executorIn(t, corev1.PodRunning, "0")
	leaving.DeletionTimestamp = &metav1.Time{}
	for name, c := range map[string]struct {
		executors []spark.Pod
		want      bool
	}{
		"none":             {nil, true},
		"two":              {[]spark.Pod{running, running}, false},
		"one starts":       {[]spark.Pod{running, pending}, false},
		"one died":         {[]spark.Pod{running, failed}, true},
		"one leaves":       {[]spark.Pod{running, leaving}, true},
		"of another":       {[]spark.Pod{running, other}, true},
		"more than before": {[]spark.Pod{running, running, pending}, false},
	} {
		if got := remedy.IsShort(&plan, c.executors); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What was withdrawn is not tried again.
func TestWithdraw(t *testing.T) {
	a := application(deaths(oom.OOMKilled, 1))
	a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Enabled, AfterDeaths: 1, MaxMemoryMiB: 8192}
	plans := remedy.Plans(nil, a)
	if len(plans) != 1 || !remedy.IsToBeLookedAt(&plans[0], noon) || remedy.IsToBeLookedAt(&plans[0], noon.Add(24*time.Hour)) {
		t.Fatal(plans)
	}
	plans = remedy.Withdraw(plans, "0", false)
	if plans[0].MoreMemory() || remedy.IsToBeLookedAt(&plans[0], noon) {
		t.Error("it is not withdrawn")
	}
	for _, d := range deaths(oom.OOMKilled, 1, 1)[1:] {
		d.At = metav1.NewTime(noon.Add(24 * time.Hour)) // also after the plan's end
		a.Record.Add(d)
	}
	if again := remedy.Plans(plans, a); again[0].MoreMemory() || !strings.Contains(again[0].Refused, "more memory was withdrawn") {
		t.Errorf("%+v", again[0])
	}
}

// One executor with the memory of a plan proves that its creation is not refused.
func TestIsProven(t *testing.T) {
	plan := annotations.RemedyPlan{Profile: "0", Memory: &annotations.RemedyMemory{ToLimitMiB: 1408}}
	as := func(limit, profile string) spark.Pod {
		e := executorIn(t, corev1.PodRunning, profile)
		e.Container().Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}
		return e
	}
	if !remedy.IsProven(&plan, []spark.Pod{as("896Mi", "0"), as("1408Mi", "0")}) {
		t.Error("one with the memory proves nothing")
	}
	if remedy.IsProven(&plan, []spark.Pod{as("896Mi", "0"), as("1408Mi", "1")}) {
		t.Error("others prove it")
	}
}
