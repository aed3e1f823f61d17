package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// TestSession records the session of the front page: two applications, one that loses
// executors and one that hangs, in a namespace without spark-vitals and in one with it.
// The pods are captured from Spark and their statuses are written as a kubelet does;
// the webhook, the recorder, kubectl and the report are real.
func TestSession(t *testing.T) {
	ctx := t.Context()
	webhook := must(controlPlane.StartWebhook(ctx, os.Stderr, "--shutdown-delay=0s"))(t)
	defer webhook.Stop()
	if err := controlPlane.Register(ctx, "session", webhook.URL, nil); err != nil {
		t.Fatal(err)
	}
	if err := controlPlane.Namespace(ctx, "injected", map[string]string{annotations.Inject: "enabled"}); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Injects(ctx, controlPlane.Client, "injected", patience); err != nil {
		t.Fatal(err)
	}
	if err := controlPlane.Namespace(ctx, "recorder", nil); err != nil {
		t.Fatal(err)
	}
	rights := must(helm.Rights("recorder", "recorder", nil))(t)
	recorder := must(controlPlane.StartRecorder(ctx, os.Stderr, must(controlPlane.Allow(ctx, rights, ""))(t)))(t)
	defer recorder.Stop()

	var session strings.Builder
	for _, side := range []struct {
		title, namespace string
		labels           map[string]string
		commands         []string
		remark           string
	}{
		{"Without spark-vitals", "before", nil, []string{"kubectl get pods"}, "etl has lost three executors: their pods are deleted, and the reason with them. nightly hangs."},
		{"With spark-vitals", "spark", map[string]string{annotations.Inject: "enabled"}, []string{"kubectl get pods", "kubectl spark-vitals report"}, ""},
	} {
		with := side.labels != nil
		if err := controlPlane.Namespace(ctx, side.namespace, side.labels); err != nil {
			t.Fatal(err)
		}
		happen(t, side.namespace, with)
		s := newShell(t, side.namespace)
		fmt.Fprintf(&session, "== %s\n", side.title)
		for _, command := range side.commands {
			out, _ := s.run(t, command) // the report's exit status says that something died
			fmt.Fprintf(&session, "$ %s\n%s", command, plain(out))
		}
		if side.remark != "" {
			fmt.Fprintf(&session, "# %s\n", side.remark)
		}
	}
	golden.Holds(t, filepath.Join(pages.Root(), "docs/figures/session.txt"), session.String())
}

// happen lets both applications fail in a namespace. The report begins with the last
// death, so etl comes last.
func happen(t *testing.T, namespace string, with bool) {
	t.Helper()
	ctx := t.Context()
	nightly := must(kubelet.Driver(ctx, namespace, "nightly"))(t)
	if with {
		endByProbe(t, nightly)
	}
	etl := must(kubelet.Driver(ctx, namespace, "etl"))(t)
	must(kubelet.Executor(ctx, etl, 4))(t)
	for id := 1; id <= 3; id++ {
		executor := must(kubelet.Executor(ctx, etl, id))(t)
		dead := must(kubelet.Die(ctx, executor, "OOMKilled", 137))(t)
		if err := kubelet.Remove(ctx, dead); err != nil { // as Spark does
			t.Fatal(err)
		}
		if with {
			recorded(t, etl, fmt.Sprintf("Executor %d was killed", id))
		}
	}
}

// endByProbe writes what a kubelet does with a frozen driver.
func endByProbe(t *testing.T, driver *corev1.Pod) {
	t.Helper()
	ctx, container := t.Context(), driver.Spec.Containers[0].Name
	must(kubelet.CoreV1().Events(driver.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: driver.Namespace, GenerateName: "killing-"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: driver.Namespace, Name: driver.Name, UID: driver.UID, FieldPath: "spec.containers{" + container + "}"},
		Reason:         "Killing", Message: "Container " + container + " failed liveness probe", LastTimestamp: metav1.Now(), Type: corev1.EventTypeNormal,
	}, metav1.CreateOptions{}))(t)
	must(kubelet.Fail(ctx, must(kubelet.Die(ctx, driver, "Error", 137))(t)))(t)
	recorded(t, driver, "liveness probe failed")
}

var (
	age  = regexp.MustCompile(`(?m) +(AGE|\d+s|\d+m\d*s?)$`)
	when = regexp.MustCompile(` +last \S+Z`)
)

// plain removes ages and times, which differ from run to run.
func plain(out string) string { return when.ReplaceAllString(age.ReplaceAllString(out, ""), "") }
