package apiserver

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A namespace with Pod Security accepts with the webhook what it accepts without it.
func TestPodSecurity(t *testing.T) {
	for _, level := range []string{"baseline", "restricted"} {
		labels := map[string]string{"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": "latest"}
		without := "pod-security-" + level
		if err := controlPlane.Namespace(t.Context(), without, labels); err != nil {
			t.Fatal(err)
		}
		for _, s := range webhooks {
			with := without + "-" + s.name
			s.optIn(t, with, labels)
			t.Run(level+"/"+s.name, func(t *testing.T) {
				pods := capturedPods(t)
				for n := range 60 {
					pods[seed(n)] = generate.Pods().Example(n)
				}
				taken := 0
				for name, pod := range pods {
					pod = restricted(pod)
					plain, err := create(t, without, pod)
					if err != nil {
						continue // for its host's network, say
					}
					taken++
					if _, err := create(t, with, pod); err != nil {
						if _, result := s.expected(plain, policy.Enabled); !mayRefuse(plain, result) {
							t.Errorf("%s is refused: %v", name, err)
						}
					}
				}
				if taken < 20 || taken == len(pods) {
					t.Errorf("%d of %d pods are taken without us; the level or the generator is wrong", taken, len(pods))
				}
			})
		}
	}
}

// restricted returns a pod that meets the level "restricted" as far as its author can.
func restricted(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(185)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
		}
	}
	return pod
}

// The defaults of a LimitRange are set before the webhook runs, so the memory
// annotations are right. What the webhook adds counts against no quota.
func TestLimitsAndQuota(t *testing.T) {
	used := map[string]corev1.ResourceList{}
	for _, with := range []bool{false, true} {
		namespace := fmt.Sprintf("limits-%t", with)
		if with {
			webhooks[0].optIn(t, namespace, nil)
		} else if err := controlPlane.Namespace(t.Context(), namespace, nil); err != nil {
			t.Fatal(err)
		}
		limit(t, namespace)
		for name, pod := range capturedPods(t) {
			pod.Name, pod.GenerateName, pod.Namespace = "", "pod-", namespace
			for i := range pod.Spec.Containers {
				pod.Spec.Containers[i].Resources = corev1.ResourceRequirements{}
			}
			made, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
			if err != nil {
				t.Fatalf("%s in %s: %v", name, namespace, err)
			}
			if got := made.Annotations[annotations.MemoryLimit]; with && got != "3072Mi" {
				t.Errorf("%s: the memory limit is said to be %q", name, got)
			}
		}
		quota, err := client.CoreV1().ResourceQuotas(namespace).Get(t.Context(), "quota", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		used[namespace] = quota.Status.Used
	}
	if diff := cmp.Diff(used["limits-false"], used["limits-true"]); diff != "" {
		t.Errorf("used (-without +with):\n%s", diff)
	}
}

// limit sets limits for a namespace: containers have 3 GiB by default, and there is a
// quota, without a controller that counts its use.
func limit(t *testing.T, namespace string) {
	t.Helper()
	limits := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "limits"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type:           corev1.LimitTypeContainer,
		Default:        corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("3Gi")},
		DefaultRequest: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		Max:            corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi")},
	}}}}
	if _, err := client.CoreV1().LimitRanges(namespace).Create(t.Context(), limits, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	hard := corev1.ResourceList{"limits.memory": resource.MustParse("200Gi"), "requests.cpu": resource.MustParse("99"), "count/pods": resource.MustParse("99")}
	none := corev1.ResourceList{}
	for name := range hard {
		none[name] = resource.MustParse("0")
	}
	quotas := client.CoreV1().ResourceQuotas(namespace)
	quota, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: none}
	if _, err := quotas.UpdateStatus(t.Context(), quota, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Until the API server knows of the status it refuses pods.
	eventually.Succeeds(t, "the quota takes a pod", func(ctx context.Context) error {
		_, err := cluster.AskOnce(ctx, client, namespace)
		return err
	})
}

// A platform that refuses containers without probes accepts Spark's pods with the
// webhook and any ready-made policy. None of them gives probes to executors of a
// StatefulSet.
func TestProbesDemanded(t *testing.T) {
	labels := map[string]string{"probes": "demanded"}
	demandProbes(t, labels)
	if err := controlPlane.Namespace(t.Context(), "demanded", labels); err != nil {
		t.Fatal(err)
	}
	pods := capturedPods(t)
	eventually.True(t, "the policy refuses a pod", func() bool {
		_, err := create(t, "demanded", pods["spark-4.1.4/driver"])
		return apierrors.IsInvalid(err) // as it says by default
	})
	for _, s := range webhooks {
		s.optIn(t, "demanded-"+s.name, labels)
		for name, pod := range pods {
			if _, err := create(t, "demanded", pod); err == nil {
				t.Errorf("%s has probes without us", name)
			}
			sparkPod, err := spark.PodOf(pod.DeepCopy())
			if err != nil || len(pod.Spec.Containers) > 1 { // a sidecar's probes are its author's business
				continue
			}
			_, err = create(t, "demanded-"+s.name, pod)
			if probed := !sparkPod.FromWorkload() || s.name == "everything"; (err == nil) != probed {
				t.Errorf("%s/%s: %v", s.name, name, err)
			}
		}
	}
}

// demandProbes registers a policy for namespaces with labels.
func demandProbes(t *testing.T, labels map[string]string) {
	t.Helper()
	const name = "demand-probes"
	admission := client.AdmissionregistrationV1()
	if _, err := admission.ValidatingAdmissionPolicies().Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: cluster.CreationOf("pods")[0]}},
			},
			Validations: []admissionregistrationv1.Validation{{
				Expression: "object.spec.containers.all(c, has(c.readinessProbe) || has(c.livenessProbe) || has(c.startupProbe))",
			}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admission.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: labels}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = admission.ValidatingAdmissionPolicyBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
		_ = admission.ValidatingAdmissionPolicies().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
}

// optIn makes a namespace of the webhook with more labels.
func (s *webhook) optIn(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	all := map[string]string{"policy": s.name}
	maps.Copy(all, labels)
	if err := namespace(t.Context(), name, all, policy.Enabled); err != nil {
		t.Fatal(err)
	}
}

func capturedPods(t *testing.T) map[string]*corev1.Pod {
	t.Helper()
	pods := map[string]*corev1.Pod{}
	for _, review := range captured.Reviews() {
		if review.Kind() != "Pod" {
			continue
		}
		pod, err := cluster.CapturedPod(review, unlabelled)
		if err != nil {
			t.Fatal(err)
		}
		pods[review.Name] = pod
	}
	return pods
}
