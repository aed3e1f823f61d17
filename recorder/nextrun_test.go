package recorder

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// needing keeps a job whose last run needed fewer cores for its executors, and a driver
// that died of memory.
func needing(t *testing.T) *jobServer {
	t.Helper()
	on := newServer()
	r := sparkjob.Run{
		Driver: "driver-u-0", UID: "u-0", Application: "spark-0", Began: metav1.NewTime(now.Add(-time.Hour)), Ended: &metav1.Time{Time: now}, State: sparkjob.Killed, Executors: 2,
		Deaths:  []oom.Deaths{{Role: spark.Driver, Cause: oom.HeapOOM, Count: 1}},
		NextRun: sparkjob.Containers[annotations.Mode]{Driver: annotations.Enabled, Executor: annotations.Enabled},
	}
	r.Settings.Executor = sparkjob.Settings{LimitMiB: 1408, HeapMiB: 1024}
	r.Settings.Driver, r.Remedy.Executor = sparkjob.Settings{LimitMiB: 1408, HeapMiB: 1024}, sparkjob.Change{FromCores: 4, ToCores: 1}
	if err := remembering(t, on).addRun(t.Context(), "spark", "nightly", r); err != nil {
		t.Fatal(err)
	}
	return on
}

// The webhook learns from a job's metadata what its next driver gets.
func TestTellWebhook(t *testing.T) {
	on := needing(t)
	job := on.objects["nightly"]
	m := annotations.ReadNextRunMemory(job.GetAnnotations()[annotations.NextRun])
	if m == nil || m.ToHeapMiB != 1536 || job.GetLabels()[annotations.NextRun] != "driver" {
		t.Fatal(job.Object)
	}
	well := sparkjob.Run{Driver: "driver-u-9", UID: "u-9", Application: "spark-9", Began: metav1.NewTime(now), Ended: &metav1.Time{Time: now}, State: sparkjob.Succeeded}
	if err := remembering(t, on).addRun(t.Context(), "spark", "nightly", well); err != nil {
		t.Fatal(err)
	}
	if job := on.objects["nightly"]; len(job.GetAnnotations()) > 0 || len(job.GetLabels()) > 0 {
		t.Error(job.Object)
	}
}

// A new driver of a job gets the plan for its executors, once its ConfigMap shows that
// tasks fit.
func TestBegin(t *testing.T) {
	for name, c := range map[string]struct {
		properties string // "" is no ConfigMap
		change     func(*corev1.Pod)
		reads      bool // ConfigMaps
		cores      int  // of the plan; 0 without one
		refused    string
		fails      bool
	}{
		"a plan":              {"spark.executor.cores=4\nspark.task.cpus=1\n", nil, true, 1, "", false},
		"a large task":        {"spark.task.cpus=2\n", nil, true, 0, "", false},
		"no right":            {"spark.task.cpus=1\n", nil, false, 0, "", false},
		"another heap":        {"spark.executor.memory=8g\n", nil, true, 0, "", false},
		"no ConfigMap yet":    {"", nil, true, 0, "", true},
		"off":                 {"a=b\n", func(p *corev1.Pod) { p.Annotations[annotations.RemedyMode] = "disabled" }, true, 0, "", false},
		"another job":         {"a=b\n", func(p *corev1.Pod) { p.Annotations[annotations.Job] = "hourly" }, true, 0, "", false},
		"it has a plan":       {"a=b\n", func(p *corev1.Pod) { p.Annotations[annotations.Remedy] = planText(p, 3) }, true, 3, "", false},
		"its driver is older": {"a=b\n", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-beginWithin - time.Second)) }, true, 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := remembering(t, needing(t))
			s.ReadConfigMaps = c.reads
			p := nightly(t, "u-1", now)
			p.Labels[spark.VersionLabel] = "3.5.9"
			p.Spec.Volumes = []corev1.Volume{{Name: "spark-conf-volume-driver", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}}
			if c.change != nil {
				c.change(p)
			}
			if _, err := s.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if c.properties != "" {
				conf := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "conf"}, Data: map[string]string{spark.PropertiesFile: c.properties}}
				if _, err := s.CoreV1().ConfigMaps(p.Namespace).Create(t.Context(), conf, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			s.see(t, p)
			driver, err := spark.PodOf(strip(p))
			if err != nil {
				t.Fatal(err)
			}
			if s.sawBegin(driver); s.jobs.known(p.UID).begun == strings.Contains(name, "older") {
				t.Error("it begins:", s.jobs.known(p.UID).begun)
			}
			if !strings.Contains(name, "older") {
				if err := s.begin(t.Context(), keyOf(driver)); (err != nil) != c.fails {
					t.Error(err)
				}
			}
			written, err := s.CoreV1().Pods(p.Namespace).Get(t.Context(), p.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			plans := annotations.ReadRemedy(written.Annotations[annotations.Remedy])
			if c.cores == 0 && len(plans) == 0 {
				return
			}
			if len(plans) != 1 || plans[0].ToCores != c.cores || !strings.Contains(plans[0].Refused, c.refused) {
				t.Fatal(written.Annotations)
			}
			if plans[0].Run == "driver-u-0" && plans[0].FewerCores() && !strings.Contains(written.Annotations[annotations.Message], "because run driver-u-0 of the same job needed it") {
				t.Error(written.Annotations[annotations.Message])
			}
			if written.Annotations[annotations.State] != "" || written.Annotations[annotations.Reason] != "" {
				t.Error("a driver that lives has a death:", written.Annotations)
			}
		})
	}
}

func planText(p *corev1.Pod, cores int) string {
	return annotations.RemedyText([]annotations.RemedyPlan{{Application: p.Labels[spark.ApplicationLabel], Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: cores, Until: now.Add(time.Hour)}})
}

// A run that failed before its executors could get a plan has it in its job.
func TestPlanTooLate(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	s.knowledge = newKnowledge(&testUI{})
	p := ended(nightly(t, "u-1", now.Add(-time.Minute)), "7", "Error", 1, now)
	driver, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	driver.Labels[spark.VersionLabel] = "3.5.9"
	looks(t, s, p, false)
	known := of[known](s.knowledge, s.knowledge.drivers, p.UID)
	known.settings.Store(&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1})
	var record oom.Record
	record.Add(oom.Termination{Set: "executors", Number: 1, Role: spark.Executor, Pod: "e", Cause: oom.HeapOOM, At: metav1.NewTime(now), LimitMiB: 896, HeapMiB: 512, Cores: 4})
	for next, want := range map[annotations.Mode]sparkjob.Change{"": {}, annotations.Enabled: {FromCores: 4, ToCores: 2}} {
		s.planNextRun(driver, &record, map[string]annotations.RemedyTerms{"0": {Mode: annotations.Enabled, AfterDeaths: 1, NextRun: next}}, nil)
		looks(t, s, p, false)
		if got := on.nightly(t).Runs[0].Needed; next == annotations.Enabled && got != want {
			t.Errorf("%q: %+v", next, got)
		}
	}
}
