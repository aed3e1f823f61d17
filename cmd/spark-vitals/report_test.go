package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
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

// Who may not list Events is told so, and what the pods say stands.
func TestReportWithoutEvents(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("list", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(eventsv1.Resource("events"), "", errors.New("no right"))
	})
	var found findings
	var told strings.Builder
	if err := found.askForEvents(t.Context(), client, "spark", nil, &told); err != nil || found.Events {
		t.Errorf("Events were read: %t, %v", found.Events, err)
	}
	if !strings.HasPrefix(told.String(), "Events cannot be listed, so deaths of pods that are gone are not known: ") {
		t.Error(told.String())
	}
}

// A record is printed when it appears and when it changes, and not for a change of
// something else; whoever stops then learns that something died.
func TestReportWatched(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly-driver", Namespace: "spark", UID: "a", Labels: map[string]string{"spark-role": "driver", "spark-app-selector": "spark-1"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "spark-kubernetes-driver"}}},
	}
	client := fake.NewClientset(pod)
	ctx, stop := context.WithCancel(t.Context())
	lines, out := io.Pipe()
	ended := make(chan error)
	go func() {
		err := watchReport(ctx, out, client, "spark")
		_ = out.Close()
		ended <- err
	}()
	change := func(key, value string) {
		pod = pod.DeepCopy()
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, value)
		if _, err := client.CoreV1().Pods("spark").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	}
	printed := bufio.NewScanner(lines)
	next := func(want string) {
		for printed.Scan() {
			if strings.Contains(printed.Text(), "Message ") {
				if got := strings.TrimSpace(printed.Text()); got != want {
					t.Errorf("%q is printed, want %q", got, want)
				}
				return
			}
		}
		t.Errorf("nothing more is printed, want %q", want)
	}
	go func() {
		change(annotations.State, "KILLED")
		change(annotations.Message, "Message one.")
	}()
	next("Message one.")
	go func() {
		change("example.com/other", "x")
		change(annotations.Message, "Message two.")
	}()
	next("Message two.")
	stop()
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	if err := <-ended; !errors.Is(err, errFound) {
		t.Errorf("it ends with %v", err)
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
