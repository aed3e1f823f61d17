package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spark-vitals/spark-vitals/recorder"
)

// A driver that its operator has deleted and replaced is known from the recorder's
// Events; a death that a pod still shows, or that others' Events tell, is not
// repeated.
func TestReportFromEvents(t *testing.T) {
	running := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly-driver", Namespace: "spark", UID: "second", Labels: map[string]string{"spark-role": "driver"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "spark-kubernetes-driver"}}},
	}
	client := fake.NewClientset(running,
		deathOf("a", recorder.Controller, "Pod", "nightly-driver", "first", "first"),
		deathOf("b", recorder.Controller, "SparkApplication", "nightly", "app", "first"),
		deathOf("c", recorder.Controller, "Pod", "nightly-driver", "second", "executor"), // its record says it
		deathOf("d", "kubelet", "Pod", "web", "x", "x"))
	pods, err := listPods(t.Context(), client, "spark")
	if err != nil {
		t.Fatal(err)
	}
	events, err := deathEvents(t.Context(), client, "spark")
	if err != nil {
		t.Fatal(err)
	}
	found := foundIn(pods)
	found.addEvents(events, pods)
	var out strings.Builder
	if err := report(&out, found, printReport); err != errFound { //nolint:errorlint // never wrapped
		t.Errorf("the report ends with %v", err)
	}
	want := `spark/SparkApplication nightly
  (known from Events; the pods are gone)
  first  DriverOOMKilled  once  last 2026-11-21T08:26:20Z
  Set spark.driver.memoryOverhead=600m.
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func deathOf(name, controller, kind, about string, uid, died types.UID) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "spark"}, ReportingController: controller,
		Regarding: corev1.ObjectReference{Kind: kind, Namespace: "spark", Name: about, UID: uid},
		Related:   &corev1.ObjectReference{Kind: "Pod", Namespace: "spark", Name: string(died), UID: died},
		Reason:    "DriverOOMKilled", Note: "Set spark.driver.memoryOverhead=600m.",
		EventTime: metav1.NewMicroTime(time.Date(2026, 11, 21, 8, 26, 20, 0, time.UTC)),
	}
}
