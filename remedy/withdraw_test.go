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

// executorOf returns an executor that was created so long after the death, with a limit
// in MiB.
func executorOf(t *testing.T, after time.Duration, limit string) spark.Pod {
	t.Helper()
	p, err := spark.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			CreationTimestamp: metav1.NewTime(noon.Add(after)),
			Labels:            map[string]string{spark.RoleLabel: "executor", spark.ExecutorIDLabel: "5"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: spark.ExecutorContainer, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unschedulable makes an executor one that no node has room for, since its creation.
func unschedulable(e spark.Pod) spark.Pod {
	e.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, LastTransitionTime: e.CreationTimestamp},
	}}
	return e
}

// More memory is withdrawn if no executor is created, or if one finds no node, and not
// tried again.
func TestWithdraw(t *testing.T) {
	died := deaths(oom.OOMKilled, 1)
	died[0].LimitMiB = 2112
	for _, c := range []struct {
		name      string
		executors []spark.Pod
		dead      []oom.Termination
		after     time.Duration
		want      string
	}{
		{"at once", nil, nil, 29 * time.Second, ""},
		{"none was created", nil, nil, 30 * time.Second, "no executor was created within 30 seconds"},
		{"only earlier ones", []spark.Pod{executorOf(t, -time.Second, "1408Mi")}, nil, time.Minute, "no executor was created"},
		{"one was", []spark.Pod{executorOf(t, time.Second, "2112Mi")}, nil, time.Hour, ""},
		{"one as Spark asked", []spark.Pod{executorOf(t, time.Second, "1408Mi")}, nil, time.Hour, ""},
		{"one that died", nil, died, time.Hour, ""},
		{"one waits", []spark.Pod{unschedulable(executorOf(t, time.Second, "2112Mi"))}, nil, 2 * time.Minute, ""},
		{"one waits for long", []spark.Pod{unschedulable(executorOf(t, time.Second, "2112Mi"))}, nil, 2*time.Minute + time.Second, "executor 5 found no node with so much memory for 2 minutes"},
		{"one of Spark's waits for long", []spark.Pod{unschedulable(executorOf(t, time.Second, "1408Mi"))}, nil, time.Hour, ""},
	} {
		plan := annotations.RemedyPlan{
			Application: "spark-1", Profile: "0", Mode: annotations.Enabled, FromCores: 1, ToCores: 1, Until: noon.Add(time.Hour),
			Memory: &annotations.RemedyMemory{FromLimitMiB: 1408, ToLimitMiB: 2112, FromHeapMiB: 1024, ToHeapMiB: 1024, Since: noon},
		}
		record := &oom.Record{}
		record.Add(c.dead...)
		after, changed := remedy.Withdraw([]annotations.RemedyPlan{plan}, record, c.executors, noon.Add(c.after))
		if changed != (c.want != "") || !strings.HasPrefix(after[0].Withdrawn, c.want) || after[0].MoreMemory() == changed {
			t.Errorf("%s: %q, want %q", c.name, after[0].Withdrawn, c.want)
		}
		if changed {
			a := application(deaths(oom.OOMKilled, 1, 1))
			a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Enabled, AfterDeaths: 2, MaxMemoryMiB: 8192}
			if again := remedy.Plans(after, a); again[0].MoreMemory() || !strings.Contains(again[0].Refused, "more memory was withdrawn: ") {
				t.Errorf("%s: it is tried again: %+v", c.name, again[0])
			}
		}
		plan.Mode = annotations.Audit
		if _, changed := remedy.Withdraw([]annotations.RemedyPlan{plan}, record, c.executors, noon.Add(c.after)); changed {
			t.Errorf("%s: withdrawn in audit", c.name)
		}
	}
}
