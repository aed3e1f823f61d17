package sparkjob_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// evidenceOf is what a recorder knows of a driver that died as a kubelet reported it.
func evidenceOf(t *testing.T, p *corev1.Pod) sparkjob.Evidence {
	t.Helper()
	record := &oom.Record{}
	record.Add(oom.Terminations(oom.Evidence{Pod: p})...)
	return sparkjob.Evidence{Driver: pod(t, p), Record: record}
}

// Each driver's death, as kubelets reported them, makes a bad run with the record's
// reason, and each other end makes none.
func TestRunOfEachDeath(t *testing.T) {
	drivers := 0
	for _, c := range golden.Cases(t, "../oom/testdata/causes") {
		p := &corev1.Pod{}
		if err := json.Unmarshal(c.JSON, p); err != nil {
			t.Fatal(err)
		}
		if p.Labels[spark.RoleLabel] != string(spark.Driver) || c.Part("executors.yaml") != nil {
			continue
		}
		if err := yaml.Unmarshal(c.Part("status.yaml"), &p.Status); err != nil {
			t.Fatal(err)
		}
		drivers++
		e := evidenceOf(t, p)
		r := sparkjob.RunOf(e)
		died := e.Record.State(e.Driver) != ""
		if r.State.IsBad() != died || r.Reason != e.Record.Reason() || died && (r.Message == "" || r.Ended == nil) {
			t.Errorf("%s: %+v", c.Name, r)
		}
	}
	if drivers < 20 {
		t.Errorf("%d drivers were looked at", drivers)
	}
}

// terminated is how Spark's container of a pod ended.
func terminated(p *corev1.Pod, code int32, reason string, from, to time.Time) {
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
		Name:  p.Spec.Containers[0].Name,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: metav1.NewTime(from), FinishedAt: metav1.NewTime(to)}},
	}}}
}

func TestRunStates(t *testing.T) {
	for _, test := range []struct {
		why   string
		tweak func(*corev1.Pod)
		gone  bool
		want  sparkjob.State
	}{
		{"it runs", func(*corev1.Pod) {}, false, sparkjob.Running},
		{"success", func(p *corev1.Pod) { terminated(p, 0, "Completed", noon, noon.Add(time.Hour)) }, false, sparkjob.Succeeded},
		{"success, and deleted", func(p *corev1.Pod) { terminated(p, 0, "Completed", noon, noon.Add(time.Hour)) }, true, sparkjob.Succeeded},
		{"over its limit", func(p *corev1.Pod) { terminated(p, 137, "OOMKilled", noon, noon.Add(time.Hour)) }, false, sparkjob.Killed},
		{"its program failed", func(p *corev1.Pod) { terminated(p, 1, "Error", noon, noon.Add(time.Hour)) }, false, sparkjob.Failed},
		{"a user deleted it", func(p *corev1.Pod) {
			terminated(p, 143, "Error", noon, noon.Add(time.Hour))
			p.DeletionTimestamp = ptr(metav1.NewTime(noon.Add(time.Hour)))
		}, true, sparkjob.Stopped},
		{"nobody saw its end", func(*corev1.Pod) {}, true, sparkjob.Unknown},
		{"it is started again", func(p *corev1.Pod) {
			terminated(p, 1, "Error", noon, noon.Add(time.Hour))
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}, false, sparkjob.Running},
	} {
		t.Run(test.why, func(t *testing.T) {
			p := sparks(t)
			test.tweak(p)
			e := evidenceOf(t, p)
			e.Gone = test.gone
			if r := sparkjob.RunOf(e); r.State != test.want || r.State == sparkjob.Succeeded && !r.Ended.Equal(ptr(metav1.NewTime(noon.Add(time.Hour)))) {
				t.Errorf("%s at %v, want %s", r.State, r.Ended, test.want)
			}
		})
	}
}

// executor is one that Spark made, and that ran from noon on.
func executor(t *testing.T, minutes int, tweak func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named("spark-3.5.9/executor").Object(), p); err != nil {
		t.Fatal(err)
	}
	terminated(p, 143, "Error", noon, noon.Add(time.Duration(minutes)*time.Minute))
	if tweak != nil {
		tweak(p)
	}
	return p
}

// Executors that end with their driver were lost with it, unless it succeeded. The
// settings are those that Spark asked for.
func TestRunOfExecutors(t *testing.T) {
	executors := []*corev1.Pod{
		executor(t, 60, nil),
		executor(t, 90, func(p *corev1.Pod) {
			p.Annotations = map[string]string{annotations.Remedied: `{"memory":{"fromLimitMiB":896,"toLimitMiB":9216,"fromHeapMiB":512,"toHeapMiB":512}}`}
			limit(p, "9Gi")
		}),
		executor(t, 61, func(p *corev1.Pod) { p.Labels["spark-exec-resourceprofile-id"] = "1"; limit(p, "9Gi") }),
		executor(t, 10, nil), // it had ended before
	}
	for code, want := range map[int32]int64{1: 3 * 3600, 0: 0} {
		p := sparks(t)
		terminated(p, code, "Error", noon, noon.Add(time.Hour))
		e := evidenceOf(t, p)
		e.Executors = executors
		if r := sparkjob.RunOf(e); r.LostExecutorSeconds != want || r.Settings.Executor != (sparkjob.Settings{LimitMiB: 896, HeapMiB: 512, Cores: r.Settings.Executor.Cores}) || r.Settings.Executor.Cores == 0 {
			t.Errorf("exit code %d: %d s, %+v", code, r.LostExecutorSeconds, r.Settings)
		}
	}
}

func limit(p *corev1.Pod, memory string) {
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
}

// A remedy that was only planned is none.
func TestRunRemedy(t *testing.T) {
	plan := annotations.RemedyPlan{Application: "spark-1", Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2, Until: noon}
	for mode, want := range map[annotations.Mode]bool{annotations.Enabled: true, annotations.Audit: false} {
		e := evidenceOf(t, sparks(t))
		plan.Mode = mode
		e.Record.Remedy = []annotations.RemedyPlan{plan}
		if r := sparkjob.RunOf(e).Remedy.Executor; (r != sparkjob.Change{}) != want || want && r != (sparkjob.Change{FromCores: 4, ToCores: 2}) {
			t.Errorf("%s: %+v", mode, r)
		}
	}
}

// Names that strangers choose are cut.
func TestRunIsBounded(t *testing.T) {
	p := sparks(t)
	p.Labels[spark.ApplicationLabel], p.Labels[spark.VersionLabel] = strings.Repeat("ä", 1000), strings.Repeat("9", 1000)
	if r := sparkjob.RunOf(evidenceOf(t, p)); len(r.Application) > 253 || len(r.Version) > 253 {
		t.Errorf("%d, %d bytes", len(r.Application), len(r.Version))
	}
}
