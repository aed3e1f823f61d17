package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// Only the recorder writes SparkJobs, whoever may view a namespace reads them, and they
// outlive the release.
func TestSparkJobs(t *testing.T) {
	const name = "jobs"
	t.Cleanup(func() { removeDefinition(t) })
	team := namespace(t, "jobs-team")
	h := install(t, name, map[string]any{"sparkJobs": map[string]any{"enabled": true}})
	ctx := t.Context()
	jobs := func(config *rest.Config) dynamic.ResourceInterface {
		client, err := dynamic.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		return client.Resource(sparkjob.Resource).Namespace(team)
	}
	job := func(name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "spark-vitals.io/v1alpha1", "kind": "SparkJob", "metadata": map[string]any{"name": name},
			"status": map[string]any{"known": int64(1), "bad": int64(0), "deaths": int64(2), "lostExecutorHours": "1.5", "runs": []any{map[string]any{"driver": "d", "uid": "u", "began": "2026-11-30T00:00:00Z", "state": "SUCCEEDED", "other": "x"}}},
		}}
	}
	recorder := jobs(tokenOf(t, name, name+"-spark-vitals-recorder"))
	eventually.Succeeds(t, "the recorder writes a job", func(ctx context.Context) error { // rights and definition come a little later
		_, err := recorder.Create(ctx, job("nightly"), metav1.CreateOptions{})
		return err
	})

	// "edit" of a platform may include all API groups.
	rule := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "jobs-editor"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"spark-vitals.io"}, Resources: []string{"sparkjobs"}, Verbs: []string{"*"}}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(ctx, rule, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	allow(t, team, rule.Name, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "editor"})
	allow(t, team, name+"-spark-vitals-view-sparkjobs", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "viewer"}) // a controller adds it to "view"
	user := func(name string) dynamic.ResourceInterface {
		config := rest.CopyConfig(controlPlane.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
		return jobs(config)
	}
	tries := 0
	eventually.Succeeds(t, "the guard of SparkJobs", func(ctx context.Context) error {
		tries++
		_, err := user("editor").Create(ctx, job(fmt.Sprintf("forged-%d", tries)), metav1.CreateOptions{})
		return refused(err)
	})
	made, err := user("viewer").Get(ctx, "nightly", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := sparkjob.Read(made.Object); err != nil || len(status.Runs) != 1 || status.Runs[0].State != sparkjob.Succeeded {
		t.Errorf("%+v, %v", made.Object, err)
	}
	if row := printed(t, team); !strings.HasPrefix(row, "[nightly 1 0 2 1.5 SUCCEEDED ") {
		t.Errorf("kubectl prints %s", row)
	}
	forged := made.DeepCopy()
	forged.Object["status"].(map[string]any)["deaths"] = int64(9)
	if _, err := user("editor").Update(ctx, forged, metav1.UpdateOptions{}); refused(err) != nil {
		t.Errorf("an update of others: %v", err)
	}
	for _, set := range []func(*unstructured.Unstructured){
		func(o *unstructured.Unstructured) { o.SetAnnotations(map[string]string{annotations.NextRun: "{}"}) },
		func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{annotations.NextRun: "driver"}) },
	} {
		more := made.DeepCopy()
		set(more)
		if _, err := user("editor").Update(ctx, more, metav1.UpdateOptions{}); refused(err) != nil {
			t.Errorf("others say what the next driver gets: %v", err)
		}
	}
	if _, err := user("viewer").Create(ctx, job("viewed"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a viewer creates one: %v", err)
	}
	if _, err := recorder.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Errorf("the recorder: %v", err)
	}

	// The garbage collector, which may write no records, removes the finalizer. It does not
	// run here.
	if _, err := recorder.Create(ctx, job("foreground"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	foreground := metav1.DeletePropagationForeground
	if err := user("editor").Delete(ctx, "foreground", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	waits, err := user("editor").Get(ctx, "foreground", metav1.GetOptions{})
	if err != nil || len(waits.GetFinalizers()) != 1 {
		t.Fatalf("%v: %+v", err, waits)
	}
	waits.SetFinalizers(nil)
	if _, err := user("editor").Update(ctx, waits, metav1.UpdateOptions{}); err != nil {
		t.Errorf("the garbage collector: %v", err)
	}

	// A second release leaves the definition to the first one.
	second := install(t, name+"-2", map[string]any{"sparkJobs": map[string]any{"enabled": true, "crd": false}})
	if err := second.Uninstall(); err != nil {
		t.Error(err)
	}
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if _, err := user("viewer").Get(ctx, "nightly", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the right to view is left: %v", err)
	}
	if kept, err := jobs(controlPlane.Config).Get(ctx, "nightly", metav1.GetOptions{}); err != nil || len(kept.GetFinalizers()) > 0 {
		t.Errorf("the job is gone with the release: %v", err)
	}
	again := install(t, name, map[string]any{"sparkJobs": map[string]any{"enabled": true}}) // takes the definition over
	if err := again.Upgrade(ctx, map[string]any{"sparkJobs": map[string]any{"enabled": false}}); err != nil {
		t.Fatal(err)
	}
	if err := jobs(controlPlane.Config).Delete(ctx, "nightly", metav1.DeleteOptions{}); err != nil {
		t.Errorf("a job is not forgotten: %v", err)
	}
}

// An upgrade of the definition keeps jobs. While a recorder runs, the definition may be
// deleted: deaths are recorded all the same, and when it is back, drivers that still exist
// bring their runs back. A removal has nothing to wait for.
func TestDefinitionIsDeleted(t *testing.T) {
	const name = "redefined"
	t.Cleanup(func() { removeDefinition(t) })
	ctx := t.Context()
	team := namespaceWith(t, name+"-team", map[string]string{annotations.Inject: "enabled"})
	values := map[string]any{"sparkJobs": map[string]any{"enabled": true}}
	h := install(t, name, values)
	recorder, err := controlPlane.StartRecorder(ctx, os.Stderr, tokenKubeconfig(t, name, name+"-spark-vitals-recorder"), "--spark-jobs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recorder.Stop)
	client, err := dynamic.NewForConfig(controlPlane.Config)
	if err != nil {
		t.Fatal(err)
	}
	jobs := client.Resource(sparkjob.Resource).Namespace(team)
	run := func(driver, reason string, code int32) *corev1.Pod {
		kubelet := cluster.Kubelet{Interface: admin}
		p, err := kubelet.Run(ctx, team, driver, "nightly")
		if err == nil {
			p, err = kubelet.Die(ctx, p, reason, code)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	has := func(states ...sparkjob.State) func(context.Context) error {
		return func(ctx context.Context) error { return hasRuns(ctx, jobs, states...) }
	}
	run("first", "Completed", 0)
	eventually.Succeeds(t, "the run is written", has(sparkjob.Succeeded))
	before, err := jobs.Get(ctx, "nightly", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	if err := h.Upgrade(ctx, map[string]any{"sparkJobs": values["sparkJobs"], "commonLabels": map[string]any{"team": "platform"}}); err != nil {
		t.Fatal(err)
	}
	definition, err := client.Resource(crds).Get(ctx, definitionName, metav1.GetOptions{})
	if err != nil || definition.GetLabels()["team"] != "platform" {
		t.Errorf("the definition is not upgraded: %v, %v", definition, err)
	}
	after, err := jobs.Get(ctx, "nightly", metav1.GetOptions{})
	if err != nil || after.GetUID() != before.GetUID() || after.GetResourceVersion() != before.GetResourceVersion() {
		t.Errorf("after the upgrade: %+v, %v", after, err)
	}

	removeDefinition(t)
	killed := run("second", "OOMKilled", 137)
	eventually.Succeeds(t, "the death is recorded", func(ctx context.Context) error {
		p, err := admin.CoreV1().Pods(team).Get(ctx, killed.Name, metav1.GetOptions{})
		if err == nil && p.Annotations[annotations.State] == "" {
			err = errors.New("it is not")
		}
		return err
	})
	eventually.Succeeds(t, "the recorder says that there are no SparkJobs", func(context.Context) error {
		log, err := os.ReadFile(recorder.Log())
		if n := bytes.Count(log, []byte("does not know SparkJobs")); err == nil && n != 1 {
			err = fmt.Errorf("said %d times", n)
		}
		return err
	})
	metrics, err := recorder.Metrics(ctx)
	if err != nil || regexp.MustCompile(`(?m)^spark_vitals_recorder_errors_total\{.*\} [^0]`).MatchString(metrics) {
		t.Errorf("calls fail: %s, %v", metrics, err)
	}

	if err := h.Upgrade(ctx, values); err != nil {
		t.Fatal(err)
	}
	recorder.Stop() // it would look again within an hour
	if err := recorder.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the runs are back", has(sparkjob.Killed, sparkjob.Succeeded))
	recorder.Stop()
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if left, err := jobs.Get(ctx, "nightly", metav1.GetOptions{}); err != nil || len(left.GetFinalizers())+len(left.GetOwnerReferences()) > 0 {
		t.Errorf("after the removal: %+v, %v", left, err)
	}
}

// hasRuns returns nil if the job nightly has runs in these states, the newest first.
func hasRuns(ctx context.Context, jobs dynamic.ResourceInterface, want ...sparkjob.State) error {
	object, err := jobs.Get(ctx, "nightly", metav1.GetOptions{})
	if err != nil {
		return err
	}
	status, err := sparkjob.Read(object.Object)
	var got []sparkjob.State
	for i := range status.Runs {
		got = append(got, status.Runs[i].State)
	}
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("the runs are %v", got)
	}
	return err
}

// printed returns what "kubectl get sparkjobs" prints of a namespace with one job.
func printed(t *testing.T, namespace string) string {
	t.Helper()
	text, err := admin.Discovery().RESTClient().Get().AbsPath("/apis/spark-vitals.io/v1alpha1/namespaces", namespace, "sparkjobs").
		Param("fieldSelector", "metadata.name=nightly").SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	var table metav1.Table
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil || len(table.Rows) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	return fmt.Sprint(table.Rows[0].Cells)
}

const definitionName = "sparkjobs.spark-vitals.io"

// removeDefinition removes what outlives the release, and waits until it is gone, also when
// the test has ended.
func removeDefinition(t *testing.T) {
	t.Helper()
	client, err := dynamic.NewForConfig(controlPlane.Config)
	if err == nil {
		err = wait.PollUntilContextTimeout(context.WithoutCancel(t.Context()), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			err := client.Resource(crds).Delete(ctx, definitionName, metav1.DeleteOptions{})
			return apierrors.IsNotFound(err), nil
		})
	}
	if err != nil {
		t.Error(err)
	}
}
