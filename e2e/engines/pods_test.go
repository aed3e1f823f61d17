package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/policy/compile"
	"github.com/spark-vitals/spark-vitals/spark"
)

// sources are the policies that all pods meet: each ready-made rule set, one that does
// everything, and one that chooses by everything.
func sources() map[string]string {
	all := map[string]string{
		"everything": strings.ReplaceAll(generate.Everything, "  remedy: {mode: enabled}\n", ""),
		"own":        own,
	}
	for _, name := range policy.RuleSets {
		all[name] = "ruleSet: " + name
	}
	return all
}

const own = `
ruleSet: default
rules:
- name: python
  match: {role: driver, mainClass: "org.apache.spark.deploy.Python*", sparkVersion: "~3.5 || 4.1.x"}
  memoryAnnotations: true
  logStall: {after: 45m}
- name: team
  match:
    role: driver
    sparkVersion: "!=4.1.4"
    labels:
      matchLabels: {team: data}
      matchExpressions: [{key: spark-exec-id, operator: DoesNotExist}, {key: team, operator: Exists}, {key: team, operator: In, values: [data, other]}]
  probes:
    startup: {tcpSocket: {port: driver-rpc-port}, periodSeconds: 1, failureThreshold: 2147483647}
    readiness: {tcpSocket: {port: 7078}, periodSeconds: 1, successThreshold: 2}
  publishNotReadyAddresses: true
  exitOnOutOfMemoryError: true
  acceptUnreadyDriver: true
- name: ports
  match: {role: executor, sparkVersion: ">=3.4 <4.0"}
  blockManagerPort: {from: 20000, to: 20002}
  probes:
    readiness: {tcpSocket: {port: 7079}, initialDelaySeconds: 3}
    liveness: {exec: {command: [sh, -c, "it's $(port:blockmanager) and $(port:other)"]}, periodSeconds: 60, failureThreshold: 20, terminationGracePeriodSeconds: 9}
`

// Goldens of package patches, with their own policies.
func TestGoldens(t *testing.T) {
	for _, c := range golden.Cases(t, "../../patches/testdata") {
		t.Run(c.Name, func(t *testing.T) {
			if strings.Contains(string(c.Part("policy.yaml")), "remedy:") {
				if _, err := compile.Policy(c.Policy); err == nil || !strings.Contains(err.Error(), "remedy") {
					t.Errorf("a rule with a remedy compiles: %v", err)
				}
				return
			}
			if c.Name == "memory-heap-over-limit" {
				return // no API server takes it
			}
			e := installed(t, string(c.Part("policy.yaml")))
			if c.Kind == "Service" {
				service := &corev1.Service{}
				if err := json.Unmarshal(c.JSON, service); err != nil {
					t.Fatal(err)
				}
				if service.Spec.ClusterIP != corev1.ClusterIPNone {
					service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil // another cluster's
				}
				e.checkService(t, service, c.Mode)
				return
			}
			pod := &corev1.Pod{}
			if err := json.Unmarshal(c.JSON, pod); err != nil {
				t.Fatal(err)
			}
			e.check(t, complete(pod), c.Mode)
		})
	}
}

// Pods of real Spark.
func TestCaptured(t *testing.T) {
	for name, source := range sources() {
		e := installed(t, source)
		for _, review := range captured.Reviews() {
			switch review.Kind() {
			case "Pod":
				pod, err := cluster.CapturedPod(review, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Run(name+"/"+review.Name, func(t *testing.T) { e.check(t, pod, policy.Enabled, policy.Audit) })
			case "Service":
				service, err := cluster.CapturedService(review, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Run(name+"/"+review.Name, func(t *testing.T) {
					e.checkService(t, service, policy.Enabled)
					e.checkService(t, service, policy.Audit)
				})
			}
		}
	}
}

// In a namespace with both engines, a running webhook leaves each pod as the policy made it.
func TestBesideTheWebhook(t *testing.T) {
	for _, source := range []string{"", sources()["own"]} {
		e := installed(t, source)
		both := &engine{e.name + "-both", e.policy}
		if err := both.install(t.Context(), admissionv1.Fail); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := controlPlane.StartWebhook(t.Context(), os.Stderr, "--shutdown-delay=0s", "--policy="+file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		labels, alone := map[string]string{"engine": both.name}, map[string]string{"webhook": both.name}
		webhookAlone := &engine{both.name + "-webhook", e.policy}
		if err := errors.Join(
			controlPlane.Register(t.Context(), both.name, w.URL, labels),
			controlPlane.Register(t.Context(), webhookAlone.name, w.URL, alone),
			webhookAlone.namespaces(t.Context(), alone),
			cluster.Injects(t.Context(), client, webhookAlone.namespace(policy.Enabled), patience),
			cluster.Injects(t.Context(), client, webhookAlone.namespace(policy.Audit), patience),
		); err != nil {
			t.Fatal(err)
		}
		for _, review := range captured.Reviews() {
			if review.Kind() != "Pod" {
				continue
			}
			pod, err := cluster.CapturedPod(review, "")
			if err != nil {
				t.Fatal(err)
			}
			both.check(t, pod, policy.Enabled, policy.Audit)
			webhookAlone.check(t, pod, policy.Enabled, policy.Audit)
		}
	}
}

// Generated pods.
func TestGenerated(t *testing.T) {
	const pods = 300 // for each policy
	first := 0
	for name, source := range sources() {
		e := installed(t, source)
		first += pods
		for n := range pods {
			pod := generate.Pods().Example(first + n)
			if _, err := create(t.Context(), unlabelled, pod); err != nil {
				continue // not a pod that anybody could make
			}
			t.Run(fmt.Sprintf("%s/seed-%d", name, first+n), func(t *testing.T) { e.check(t, pod, policy.Enabled, policy.Audit) })
		}
	}
}

// Generated rules.
func TestGeneratedRules(t *testing.T) {
	for n := range 150 {
		source := generate.Rules().Example(n)
		if _, err := policy.Parse([]byte(source)); err != nil {
			continue
		}
		e := installed(t, source)
		for i := range 10 {
			pod := generate.Pods().Example(10*n + i)
			if _, err := create(t.Context(), unlabelled, pod); err == nil {
				t.Run(fmt.Sprintf("rules-%d/seed-%d", n, 10*n+i), func(t *testing.T) { e.check(t, pod, policy.Enabled) })
			}
		}
	}
}

// complete fills in what an API server demands and a golden leaves out.
func complete(pod *corev1.Pod) *corev1.Pod {
	if pod.Name == "" && pod.GenerateName == "" {
		pod.Name = "p"
	}
	pod.Spec.PriorityClassName = ""
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Image == "" {
				containers[i].Image = "spark"
			}
		}
	}
	return asSent(pod)
}

func (e *engine) check(t *testing.T, pod *corev1.Pod, modes ...policy.Mode) {
	t.Helper()
	pod = withoutListed(pod)
	pod.Spec.AutomountServiceAccountToken = new(false) // its volume is named at random
	plain, err := create(t.Context(), unlabelled, pod)
	if err != nil {
		t.Fatalf("not a pod that anybody could make: %v", err)
	}
	for _, mode := range modes {
		if mode == policy.Disabled {
			continue // the API server does not call a policy
		}
		got, err := create(t.Context(), e.namespace(mode), pod)
		if err != nil {
			t.Errorf("refused in %s: %v", mode, err)
			continue
		}
		compare(t, string(mode), e.expected(plain, mode), got)
		again, err := create(t.Context(), e.namespace(mode), asSent(got))
		if err != nil {
			t.Errorf("created again from its own result: %v", err)
			continue
		}
		compare(t, string(mode)+", created again", got, again)
		compare(t, string(mode)+", the webhook after it", got, e.expected(got, mode))
	}
}

// expected returns what package patches makes of a pod that the API server completed.
func (e *engine) expected(plain *corev1.Pod, mode policy.Mode) *corev1.Pod {
	want := plain.DeepCopy()
	pod, err := spark.PodOf(want)
	if err != nil {
		patches.Clean(want)
		return want
	}
	if patches.Apply(pod, e.policy.For(pod, mode)).Mode != policy.Enabled {
		want.Spec = plain.Spec
	}
	return want
}

// withoutListed returns the pod without what only the listed differences concern: of
// several numbers of a probe the first stays.
func withoutListed(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	for _, name := range policy.ProbeNames {
		first := ""
		for _, setting := range policy.Settings() {
			key := annotations.Prefix + setting
			if _, given := pod.Annotations[key]; !given || !strings.HasPrefix(setting, string(name)+".") {
				continue
			}
			if first == "" {
				first = key
			} else {
				delete(pod.Annotations, key)
			}
		}
	}
	return pod
}

func compare(t *testing.T, where string, want, got *corev1.Pod) {
	t.Helper()
	want, got = bare(want), bare(got)
	if isFull(want) {
		stampless(want, got)
	}
	if !apiequality.Semantic.DeepEqual(want, got) {
		t.Errorf("%s:\n%s", where, cmp.Diff(want, got))
	}
}

// isFull reports whether the user's annotations leave little space for stamps.
func isFull(pod *corev1.Pod) bool {
	size := 0
	for key, value := range pod.Annotations {
		size += len(key) + len(value)
	}
	return size > annotations.MaxBytes-2048
}

func stampless(pods ...*corev1.Pod) {
	for _, pod := range pods {
		for _, key := range annotations.Stamps {
			delete(pod.Annotations, key)
		}
	}
}

func bare(pod *corev1.Pod) *corev1.Pod {
	pod = asSent(pod)
	pod.Namespace = ""
	delete(pod.Annotations, annotations.Warnings)
	if len(pod.Annotations) == 0 {
		pod.Annotations = nil
	}
	return pod
}

// asSent returns a pod as a user who copied it with "kubectl get -o yaml" creates it.
func asSent(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.UID, pod.ResourceVersion, pod.CreationTimestamp, pod.ManagedFields, pod.Generation = "", "", metav1.Time{}, nil, 0
	return pod
}

func (e *engine) checkService(t *testing.T, service *corev1.Service, mode policy.Mode) {
	t.Helper()
	create := func(namespace string, service *corev1.Service) (*corev1.Service, error) {
		service = service.DeepCopy()
		service.Namespace, service.UID, service.ResourceVersion, service.CreationTimestamp, service.ManagedFields = namespace, "", "", metav1.Time{}, nil
		return client.CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	plain, err := create(unlabelled, service)
	if err != nil {
		t.Fatalf("not a Service that anybody could make: %v", err)
	}
	got, err := create(e.namespace(mode), service)
	if err != nil {
		t.Fatal(err)
	}
	want := plain.DeepCopy()
	if patches.IsDriverService(want) {
		patches.ApplyToService(want, e.policy.ForService(want, mode))
	}
	for _, s := range []*corev1.Service{want, got} {
		delete(s.Annotations, annotations.Warnings)
		s.Namespace, s.UID, s.CreationTimestamp, s.ManagedFields = "", "", metav1.Time{}, nil
	}
	if !apiequality.Semantic.DeepEqual(want, got) {
		t.Errorf("%s: %s", mode, cmp.Diff(want, got))
	}
}
