package apiserver

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// The captured pods get what package patches makes, and nothing else. In audit mode
// they get stamps alone.
func TestCapturedPods(t *testing.T) {
	for name, pod := range capturedPods(t) {
		for _, s := range webhooks {
			t.Run(s.name+"/"+name, func(t *testing.T) { s.check(t, pod) })
		}
	}
}

// The API server accepts with the webhook every pod that it accepts without it, except
// drivers whose users have to correct something.
func TestGeneratedPods(t *testing.T) {
	const pods = 150 // for each policy
	for i, s := range webhooks {
		t.Run(s.name, func(t *testing.T) {
			valid := 0
			for n := range pods {
				pod := generate.Pods().Example(i*pods + n)
				if _, err := create(t, unlabelled, pod); err != nil {
					continue // not a pod that anybody could make
				}
				valid++
				t.Run(seed(i*pods+n), func(t *testing.T) { s.check(t, pod) })
			}
			if valid < pods*3/4 {
				t.Errorf("only %d of %d generated pods are valid; the generator is wrong", valid, pods)
			}
		})
	}
}

func (s *webhook) check(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	plain, err := create(t, unlabelled, pod)
	if err != nil {
		t.Fatalf("without the label: %v", err)
	}
	for namespace, mode := range map[string]policy.Mode{s.enabled(): policy.Enabled, s.audited(): policy.Audit} {
		want, result := s.expected(plain, mode)
		got, err := create(t, namespace, pod)
		if mayRefuse(want, result) {
			if !refused(err) {
				t.Errorf("in %s not refused, or by another: %v", namespace, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("refused in %s: %v", namespace, err)
			continue
		}
		compare(t, namespace, want, got)
		again, err := create(t, namespace, asSent(got))
		if err != nil {
			t.Errorf("created again from its own result: %v", err)
			continue
		}
		compare(t, namespace+", created again", got, again)
	}
}

// expected returns what package patches makes of a pod that the API server completed.
func (s *webhook) expected(plain *corev1.Pod, mode policy.Mode) (*corev1.Pod, patches.Result) {
	want := plain.DeepCopy()
	pod, err := spark.PodOf(want)
	if err != nil {
		return want, patches.Clean(want)
	}
	result := patches.Apply(pod, s.policy.For(pod, mode))
	if result.Mode != policy.Enabled {
		want.Spec = plain.Spec
	}
	return want, result
}

func mayRefuse(pod *corev1.Pod, result patches.Result) bool {
	return pod.Labels[spark.RoleLabel] == string(spark.Driver) && result.Mode == policy.Enabled &&
		slices.ContainsFunc(result.Warnings, policy.Warning.IsUsersFault)
}

// asSent returns a pod as a user who copied it with "kubectl get -o yaml" creates it.
func asSent(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.UID, pod.ResourceVersion, pod.CreationTimestamp, pod.ManagedFields, pod.Generation = "", "", metav1.Time{}, nil, 0
	return pod
}

func compare(t *testing.T, where string, want, got *corev1.Pod) {
	t.Helper()
	want, got = asSent(want), asSent(got)
	for _, pod := range []*corev1.Pod{want, got} {
		pod.Namespace = ""
		for i := range pod.Spec.Volumes { // named at random for each pod
			pod.Spec.Volumes[i].Name = ""
		}
		for i := range pod.Spec.Containers {
			for j := range pod.Spec.Containers[i].VolumeMounts {
				pod.Spec.Containers[i].VolumeMounts[j].Name = ""
			}
		}
	}
	if !apiequality.Semantic.DeepEqual(want, got) {
		t.Errorf("in %s:\n%s", where, cmp.Diff(want, got))
	}
}

// The API server accepts on a pod what policy.Parse accepts.
func TestAcceptedRulesMakeValidPods(t *testing.T) {
	const rules = 300
	accepted := 0
	for n := range rules {
		source := generate.Rules().Example(n)
		p, err := policy.Parse([]byte(source))
		if err != nil {
			continue
		}
		accepted++
		for _, name := range []string{"spark-3.5.9/driver", "spark-4.1.4/executor"} {
			pod, err := cluster.CapturedPod(captured.Named(name), unlabelled)
			if err != nil {
				t.Fatal(err)
			}
			sparkPod, err := spark.PodOf(pod)
			if err != nil {
				t.Fatal(err)
			}
			patches.Apply(sparkPod, p.For(sparkPod, policy.Enabled))
			if _, err := create(t, unlabelled, pod); err != nil {
				t.Errorf("%s is accepted, and with it the API server refuses %s: %v", source, name, err)
			}
		}
	}
	if accepted < rules/10 || accepted == rules {
		t.Errorf("%d of %d rules are accepted; the generator is wrong", accepted, rules)
	}
}

// Spark uses server-side apply for its Service, and the patch stays.
func TestServices(t *testing.T) {
	for _, review := range captured.Reviews() {
		if review.Kind() != "Service" {
			continue
		}
		for namespace, want := range map[string]bool{"default-enabled": true, "default-audited": false, unlabelled: false} {
			service, err := cluster.CapturedService(review, namespace)
			if err != nil {
				t.Fatal(err)
			}
			object, err := json.Marshal(service)
			if err != nil {
				t.Fatal(err)
			}
			created, err := client.CoreV1().Services(namespace).Patch(t.Context(), service.Name, types.ApplyPatchType, object,
				metav1.PatchOptions{FieldManager: "fabric8", DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				t.Fatal(err)
			}
			if created.Spec.PublishNotReadyAddresses != want {
				t.Errorf("%s in %s: publishNotReadyAddresses is %v", review.Name, namespace, created.Spec.PublishNotReadyAddresses)
			}
			if _, stamped := created.Annotations[annotations.Injected]; stamped != (namespace != unlabelled) {
				t.Errorf("%s in %s: stamped is %v", review.Name, namespace, stamped)
			}
		}
	}
}
