package gateway_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

var died = time.Date(2026, 11, 21, 8, 28, 37, 0, time.UTC) // of the recorded driver

// The recorded driver, right after the kernel ended it and with its record, is
// due; each tweak says why it is or is not.
func TestDue(t *testing.T) {
	deleted := func(pod *corev1.Pod, requested time.Time) {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: requested.Add(30 * time.Second)}, new(int64(30))
	}
	for name, c := range map[string]struct {
		tweak     func(*corev1.Pod)
		due, gone bool // as it stands, and when the pod is gone
	}{
		"OOMKilled, phase still Running": {func(*corev1.Pod) {}, true, true},
		"without a record":               {func(p *corev1.Pod) { p.Annotations = nil }, false, true},
		"released already":               {marked(annotations.ReleaseMark{Gateway: "kyuubi", At: died, Registration: annotations.Deregistered}), false, false},
		"not registered here":            {marked(annotations.ReleaseMark{Gateway: "kyuubi", At: died, Registration: annotations.NotRegistered, Instances: []string{"/other", "/kyuubi"}}), false, false},
		"not registered elsewhere":       {marked(annotations.ReleaseMark{Gateway: "kyuubi", At: died, Registration: annotations.NotRegistered, Instances: []string{"/other"}}), true, true},
		"released by another gateway":    {marked(annotations.ReleaseMark{Gateway: "livy", At: died, Registration: annotations.Deregistered}), true, true},
		"marked before it died":          {marked(annotations.ReleaseMark{Gateway: "kyuubi", At: died.Add(-time.Minute), Registration: annotations.Deregistered}), true, true},
		"a mark of no sense":             {func(p *corev1.Pod) { p.Annotations[annotations.Released] = "yes" }, true, true},
		"may start again":                {func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, false, false},
		"its container may start again":  {func(p *corev1.Pod) { p.Spec.Containers[0].RestartPolicy = new(corev1.ContainerRestartPolicyNever) }, false, false},
		"with rules to start again":      {func(p *corev1.Pod) { p.Spec.Containers[0].RestartPolicyRules = make([]corev1.ContainerRestartRule, 1) }, false, false},
		"ended by itself":                {func(p *corev1.Pod) { ended(p).ExitCode, ended(p).Reason = 1, "Error" }, true, true},
		"ended by its liveness probe":    {func(p *corev1.Pod) { ended(p).Reason = "Error" }, true, true},
		"succeeded":                      {func(p *corev1.Pod) { ended(p).ExitCode = 0 }, false, false},
		"still running, phase Failed": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}, false, false},
		"evicted before it started": {func(p *corev1.Pod) { p.Status.ContainerStatuses, p.Status.Conditions = nil, failed(p) }, true, true},
		"evicted while it was being started": {func(p *corev1.Pod) {
			p.Status.Conditions = failed(p)
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
		}, true, true},
		"deleted before it started": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses, p.Status.Conditions = nil, failed(p)
			deleted(p, died.Add(-3*time.Second))
		}, false, false},
		"not started yet":     {func(p *corev1.Pod) { p.Status.Phase, p.Status.ContainerStatuses = corev1.PodPending, nil }, false, false},
		"only a sidecar died": {func(p *corev1.Pod) { p.Status.ContainerStatuses[0].Name = "sidecar" }, false, false},
		"succeeded, and a sidecar failed": {func(p *corev1.Pod) {
			ended(p).ExitCode = 0
			p.Status.Phase = corev1.PodFailed
		}, false, false},
		"deleted, and then it ended": {func(p *corev1.Pod) {
			deleted(p, died.Add(-10*time.Second))
			p.Annotations = nil
			ended(p).ExitCode, ended(p).Reason = 143, "Error"
		}, true, true},
		"died, then deleted, without a record": {func(p *corev1.Pod) { deleted(p, died.Add(20*time.Second)); p.Annotations = nil }, true, true},
		"deleted, and it ended well": {func(p *corev1.Pod) {
			deleted(p, died.Add(-10*time.Second))
			ended(p).ExitCode = 0
		}, false, false},
		"deleted, still running": {func(p *corev1.Pod) { // and where it was by force, it may go on for ever
			deleted(p, died.Add(-10*time.Second))
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}, false, false},
		"expired": {marked(annotations.ReleaseMark{Gateway: "kyuubi", At: died, Registration: annotations.Expired}), false, false},
	} {
		pod := kyuubitest.DriverOOMKilled()
		pod.Annotations = map[string]string{annotations.State: "KILLED"}
		c.tweak(pod)
		driver, err := spark.PodOf(pod)
		if err != nil {
			t.Fatal(err)
		}
		for gone, want := range map[bool]bool{false: c.due, true: c.gone} {
			if at, stage := gateway.StageOf(driver, gone, "/kyuubi"); (stage == gateway.Due) != want || want && !at.At.Equal(died) {
				t.Errorf("%s (gone: %t): %v %d", name, gone, at, stage)
			}
		}
	}
}

// failed sets the phase, and returns the condition that comes with it.
func failed(p *corev1.Pod) []corev1.PodCondition {
	p.Status.Phase = corev1.PodFailed
	return []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(died)}}
}

func marked(m annotations.ReleaseMark) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[annotations.Released] = m.String() }
}

// Of an evicted pod the kubelet may not know when it ended.
func TestDeathWithoutTime(t *testing.T) {
	pod := kyuubitest.DriverOOMKilled()
	ended(pod).FinishedAt, ended(pod).Reason = metav1.Time{}, "ContainerStatusUnknown"
	pod.Status.Conditions = []corev1.PodCondition{{LastTransitionTime: metav1.NewTime(died)}, {LastTransitionTime: metav1.NewTime(died.Add(-time.Hour))}}
	driver, err := spark.PodOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	if d, dead := gateway.DeathOf(driver); !dead || !d.At.Equal(died) || !d.Estimated {
		t.Error(d, dead)
	}
}

func ended(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	return pod.Status.ContainerStatuses[0].State.Terminated
}

func TestAddresses(t *testing.T) {
	pod := kyuubitest.DriverOOMKilled()
	if own := gateway.Addresses(pod); !slices.Equal(own, []string{"10.244.0.110"}) {
		t.Error(own)
	}
	pod.Spec.HostNetwork = true
	if own := gateway.Addresses(pod); own != nil {
		t.Errorf("%q of a pod that shares its node's", own)
	}
}

func TestRefusal(t *testing.T) {
	cause := errors.New("403")
	err := error(&gateway.Refusal{Reason: gateway.RightsMissing, Remedy: "Ask.", Err: cause})
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "403. Ask.") {
		t.Error(err)
	}
}
