package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// others are changes that other webhooks make to pods, before ours (by the name of
// their configuration) and after it.
var others = map[string]func(*corev1.Pod){
	"sidecar": func(pod *corev1.Pod) { // in front, as Istio may, and once only
		if pod.Spec.Containers[0].Name != "proxy" {
			pod.Spec.Containers = slices.Insert(pod.Spec.Containers, 0, corev1.Container{Name: "proxy", Image: "proxy", Ports: []corev1.ContainerPort{{ContainerPort: 15020}}})
		}
	},
	"reorder": func(pod *corev1.Pod) {
		slices.SortFunc(pod.Spec.Containers, func(a, b corev1.Container) int { return strings.Compare(b.Name, a.Name) })
	},
	"probes": func(pod *corev1.Pod) { // its own where there are none, as a policy that demands probes may
		for i := range pod.Spec.Containers {
			if c := &pod.Spec.Containers[i]; c.LivenessProbe == nil {
				c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 60}
			}
		}
	},
	"rewrite": func(pod *corev1.Pod) { // as Istio does, so that its agent asks for the kubelet; exec stays
		for i := range pod.Spec.Containers {
			for _, name := range policy.ProbeNames {
				if probe := *name.Of(&pod.Spec.Containers[i]); probe != nil && probe.Exec == nil {
					path := fmt.Sprintf("/app-health/%s/%s", pod.Spec.Containers[i].Name, name)
					probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(15020), Path: path}}
				}
			}
		}
	},
	"timeouts": func(pod *corev1.Pod) {
		for i := range pod.Spec.Containers {
			for _, name := range policy.ProbeNames {
				if probe := *name.Of(&pod.Spec.Containers[i]); probe != nil {
					probe.TimeoutSeconds = 7
				}
			}
		}
	},
}

// Beside other webhooks, in any order, the webhook refuses only what users have to
// correct, Spark's container has what the rule says or what another webhook made of it,
// and no other container changes.
func TestBesideOtherWebhooks(t *testing.T) {
	ctrllog.SetLogger(logr.Discard())
	for name, mutate := range others {
		for _, when := range []string{"a", "z"} {
			t.Run(when+"-"+name, func(t *testing.T) {
				namespaces := registerOther(t, when+"-"+name, mutate)
				before := func(*corev1.Pod) {}
				if when == "a" {
					before = mutate
				}
				for _, s := range webhooks {
					for n := range 30 {
						t.Run(s.name+"/"+seed(n), func(t *testing.T) { s.checkBeside(t, namespaces[s.name], generate.Pods().Example(n), before) })
					}
					for _, review := range captured.Reviews() {
						if review.Kind() == "Pod" {
							pod, err := cluster.CapturedPod(review, namespaces[s.name])
							if err != nil {
								t.Fatal(err)
							}
							t.Run(s.name+"/"+review.Name, func(t *testing.T) { s.checkBeside(t, namespaces[s.name], pod, before) })
						}
					}
				}
			})
		}
	}
}

func (s *webhook) checkBeside(t *testing.T, namespace string, pod *corev1.Pod, before func(*corev1.Pod)) {
	t.Helper()
	plain, err := create(t, unlabelled, pod)
	if err != nil {
		t.Skip("not a pod that anybody could make")
	}
	seen := plain.DeepCopy()
	before(seen)
	want, result := s.expected(seen, policy.Enabled)
	got, err := create(t, namespace, pod)
	if err != nil {
		if !mayRefuse(plain, result) {
			t.Errorf("refused: %v", err)
		}
		return
	}
	sparkPod, err := spark.PodOf(got)
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(got.Annotations[annotations.Warnings], "\n") {
		if !strings.Contains(want.Annotations[annotations.Warnings], line) {
			t.Errorf("warned of what another did: %s", line)
		}
	}
	for i := range got.Spec.Containers {
		if i != sparkPod.Index && got.Spec.Containers[i].StartupProbe != nil && !hasStartup(plain, got.Spec.Containers[i].Name) {
			t.Errorf("the container %s was given a startup probe", got.Spec.Containers[i].Name)
		}
	}
	for _, set := range result.Set {
		for _, name := range policy.ProbeNames {
			if set.Field == name.Field() && *name.Of(sparkPod.Container()) == nil {
				t.Errorf("the %s is gone", name.Field())
			}
		}
	}
}

func hasStartup(pod *corev1.Pod, container string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container && c.StartupProbe != nil })
}

// registerOther runs another mutating webhook, with its own namespaces for each of our
// webhooks.
func registerOther(t *testing.T, name string, mutate func(*corev1.Pod)) (namespaces map[string]string) {
	t.Helper()
	var called atomic.Bool
	server := httptest.NewUnstartedServer(&admission.Webhook{Handler: admission.HandlerFunc(func(_ context.Context, r admission.Request) admission.Response {
		called.Store(true)
		pod := &corev1.Pod{}
		if err := json.Unmarshal(r.Object.Raw, pod); err != nil {
			return admission.Errored(400, err)
		}
		mutate(pod)
		after, err := json.Marshal(pod)
		if err != nil {
			return admission.Errored(500, err)
		}
		return admission.PatchResponseFromRaw(r.Object.Raw, after)
	})})
	dir := t.TempDir()
	if err := controlPlane.Authority.Issue(dir, "tls", pkix.Name{CommonName: name}, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)

	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "other.example.com", ClientConfig: controlPlane.ClientConfig(server.URL), Rules: cluster.CreationOf("pods"),
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"beside": name}},
			FailurePolicy:           new(admissionregistrationv1.Fail),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			ReinvocationPolicy:      new(admissionregistrationv1.IfNeededReinvocationPolicy),
			TimeoutSeconds:          new(int32(30)), // as ours, where a machine stalls
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := configurations.Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = configurations.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	namespaces = map[string]string{}
	for _, s := range webhooks {
		labels := map[string]string{"policy": s.name, "beside": name}
		namespaces[s.name] = s.name + "-" + name
		if err := namespace(t.Context(), namespaces[s.name], maps.Clone(labels), policy.Enabled); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); !called.Load(); { // the API server takes a moment to know of a registration
		if _, err := cluster.AskOnce(t.Context(), client, namespaces["default"]); time.Now().After(end) {
			t.Fatalf("the other webhook is not called: %v", err)
		}
	}
	return namespaces
}
