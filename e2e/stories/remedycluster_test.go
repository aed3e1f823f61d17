package stories

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// applies applies objects of the whole cluster until the story ends.
func applies(t *testing.T, objects string) {
	t.Helper()
	t.Cleanup(func() {
		if err := theLab.Kubectl(context.Background(), []byte(objects), "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	if err := theLab.Kubectl(t.Context(), []byte(objects), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// smallProfiles lets executors of a second resource profile ask for less CPU. Spark asks
// for as much as they have cores, which the node does not have.
func smallProfiles(t *testing.T) {
	applies(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: e2e-small-profiles}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {e2e: "true"}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  matchConditions:
  - {name: profile, expression: "object.metadata.?labels['spark-exec-resourceprofile-id'].orValue('0') != '0'"}
  reinvocationPolicy: Never
  failurePolicy: Ignore
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{
          name: c.name, resources: Object.spec.containers.resources{requests: {"cpu": "20m"}}})}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: e2e-small-profiles}
spec: {policyName: e2e-small-profiles}
`)
}

// refusesMemory refuses executors with more memory than Spark gives them.
func refusesMemory(t *testing.T) {
	applies(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: e2e-refuses-memory}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {e2e: "true"}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  matchConditions:
  - {name: executor, expression: "object.metadata.?labels['spark-role'].orValue('') == 'executor'"}
  validations:
  - expression: "object.spec.containers.all(c, !quantity(c.resources.limits.memory).isGreaterThan(quantity('1000Mi')))"
    message: an executor gets at most 1000Mi
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: e2e-refuses-memory}
spec: {policyName: e2e-refuses-memory, validationActions: [Deny]}
`)
}

// fullNode leaves the node room for two applications, each with an executor as Spark asks
// for it.
func fullNode(t *testing.T) {
	const namespace, each = "remedy-full-node", 896 << 20
	nodes, err := theLab.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatal(len(nodes.Items), err)
	}
	free := nodes.Items[0].Status.Allocatable.Memory().Value()
	pods, err := theLab.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		for _, c := range p.Spec.Containers {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				free -= c.Resources.Requests.Memory().Value()
			}
		}
	}
	if err := theLab.NewNamespace(t.Context(), namespace, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, namespace) })
	filler := fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: full}, spec: {containers: [{name: full, image: none, imagePullPolicy: Never, resources: {requests: {memory: "%d"}}}]}}`, free-4*each-200<<20)
	if err := theLab.Kubectl(t.Context(), []byte(filler), "-n", namespace, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the node is full", func(ctx context.Context) error {
		p, err := theLab.Client.CoreV1().Pods(namespace).Get(ctx, "full", metav1.GetOptions{})
		if err == nil && p.Spec.NodeName == "" {
			err = fmt.Errorf("%+v", p.Status.Conditions)
		}
		return err
	})
}

// forgedPlan returns a plan that takes cores, for an application.
func forgedPlan(application string) string {
	return annotations.RemedyText([]annotations.RemedyPlan{{
		Application: application, Profile: "0", Mode: annotations.Enabled, FromCores: 2, ToCores: 1, Until: time.Now().Add(6 * time.Hour).UTC().Truncate(time.Second),
	}})
}

// forge checks that a plan that came with the driver is gone, writes one as the driver's
// own account, which may change all pods of its namespace, and has an executor replaced.
func forge(t *testing.T, r *run) {
	driver := r.driverPod(t)
	if text := driver.Annotations[annotations.Remedy]; text != "" {
		t.Errorf("the driver came with %s", text)
	}
	err := theLab.Kubectl(t.Context(), nil, "--as=system:serviceaccount:"+r.Namespace+":spark", "-n", r.Namespace, "annotate", "pod", driver.Name,
		annotations.Remedy+"="+forgedPlan(driver.Labels[spark.ApplicationLabel]))
	if err == nil || !strings.Contains(err.Error(), "spark-vitals") {
		t.Errorf("the driver's account writes a plan: %v", err)
	}
	deleteExecutor(t, r, 1)
}

// decommission has Spark decommission an executor, as the drain of a node does.
func decommission(t *testing.T, r *run) { deleteExecutor(t, r, 2) }

// deleteExecutor deletes the first executor when so many run.
func deleteExecutor(t *testing.T, r *run, among int) {
	t.Helper()
	for deleted := false; !deleted; {
		name, ended := "", false
		r.until(t, "executors run", func(h *lab.History) bool {
			var running []*lab.PodHistory
			for _, e := range h.Pods(spark.Executor) {
				if !e.Started().IsZero() && e.Terminated() == nil && !e.Deleted {
					running = append(running, e)
				}
			}
			if len(running) > 0 {
				name = running[0].Last.Name
			}
			ended = h.Driver() != nil && h.Driver().Terminated() != nil
			return len(running) >= among || ended
		})
		if ended {
			t.Fatal("the application ended before an executor was deleted")
		}
		err := theLab.Client.CoreV1().Pods(r.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) { // it ended by itself
			t.Fatal(err)
		}
		deleted = err == nil
	}
}

// kubectl runs kubectl on spark-vitals' own namespace.
func kubectl(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	if err := theLab.Kubectl(ctx, nil, append([]string{"-n", lab.Namespace}, args...)...); err != nil {
		t.Fatal(err)
	}
}

// noRecorder stops the recorder.
func noRecorder(t *testing.T) {
	const recorder = "deployment/spark-vitals-recorder"
	t.Cleanup(func() {
		kubectl(context.Background(), t, "scale", recorder, "--replicas=2")
		kubectl(context.Background(), t, "rollout", "status", recorder, "--timeout=10m")
	})
	kubectl(t.Context(), t, "scale", recorder, "--replicas=0")
	kubectl(t.Context(), t, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=recorder", "--timeout=5m")
}

// noWatch takes the webhook's right to watch drivers, and restarts it, because the API
// server does not end a watch that runs.
func noWatch(t *testing.T) {
	restart := func(ctx context.Context) {
		kubectl(ctx, t, "rollout", "restart", "deployment/spark-vitals-webhook")
		kubectl(ctx, t, "rollout", "status", "deployment/spark-vitals-webhook", "--timeout=10m")
	}
	bindings := theLab.Client.RbacV1().ClusterRoleBindings()
	binding, err := bindings.Get(t.Context(), "spark-vitals-webhook", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		binding.ResourceVersion = ""
		if _, err := bindings.Create(context.Background(), binding, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
		restart(context.Background())
	})
	if err := bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	restart(t.Context())
}

// An operator restarts a driver whose executors have a plan: it deletes the pod, and
// creates one of the same name. The second application begins as Spark asks, and gets a
// plan of its own.
func TestRemedyRestarted(t *testing.T) {
	s := remedying("remedy-restarted", "its operator restarts the driver while a plan holds", "1", manyRows, "spark.executor.cores", "3")
	s.run(t, func(t *testing.T, version string) {
		began, r := time.Now(), prepare(t, s.name, version, s.app, true)
		if err := theLab.Submit(t.Context(), r.App); err != nil {
			t.Fatal(err)
		}
		r.until(t, "there is a plan", func(h *lab.History) bool {
			return h.Driver() != nil && len(annotations.ReadRemedy(h.Driver().Last.Annotations[annotations.Remedy])) > 0
		})
		if err := theLab.Client.CoreV1().Pods(r.Namespace).Delete(t.Context(), r.DriverName(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the application is gone", func(h *lab.History) bool { return len(alive(h)) == 0 })
		if err := theLab.Submit(t.Context(), r.App); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the second driver has ended", func(h *lab.History) bool {
			drivers := h.Pods(spark.Driver)
			return len(drivers) == 2 && drivers[1].Terminated() != nil
		})
		r.Look(func(h *lab.History) {
			second := h.Pods(spark.Driver)[1]
			if end := second.Terminated(); end.ExitCode != 0 {
				t.Errorf("it ends with %d", end.ExitCode)
			}
			var executors []*lab.PodHistory
			for _, e := range h.Pods(spark.Executor) {
				if e.Last.Labels[spark.ApplicationLabel] == second.Last.Labels[spark.ApplicationLabel] {
					executors = append(executors, e)
				}
			}
			if changed, cores := s.checkExecutor(t, executors[0]); changed || cores != "3" {
				t.Errorf("the first executor of the second application has %s cores, changed: %t", cores, changed)
			}
			if changed, cores := s.checkExecutor(t, executors[len(executors)-1]); !changed || cores != "1" {
				t.Errorf("the last executor of the second application has %s cores, changed: %t", cores, changed)
			}
		})
		theTable.note(t, s.name, version, "the second application succeeded; in both "+r.executorsSeen(), time.Since(began))
	})
}

// alive returns the pods that exist.
func alive(h *lab.History) (pods []*lab.PodHistory) {
	for _, p := range append(h.Pods(spark.Driver), h.Pods(spark.Executor)...) {
		if !p.Deleted {
			pods = append(pods, p)
		}
	}
	return pods
}
