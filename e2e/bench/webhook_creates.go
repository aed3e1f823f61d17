package main

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gomodules.xyz/jsonpatch/v2"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/webhook"
)

// rival is a namespace with what its pods pass at their creation.
type rival struct {
	namespace, name string
	times           []time.Duration
}

// benchCreates measures the creation of pods through a real API server.
func benchCreates(ctx context.Context, d *document, a *aims) error {
	return cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error { return benchCreatesOn(ctx, c, d, a) })
}

func benchCreatesOn(ctx context.Context, c *cluster.ControlPlane, d *document, a *aims) error {
	pod, err := cluster.CapturedPod(captured.Named("spark-3.5.9/executor"), "")
	if err != nil {
		return err
	}
	pod.Name, pod.GenerateName, pod.OwnerReferences = "", "e-", nil
	rivals, err := register(ctx, c, pod)
	if err != nil {
		return err
	}
	d.say("\n### Pods created through the API server\nKubernetes 1.36, %d pods in each namespace, interleaved; milliseconds a pod. The measuring process serves all webhooks. *spark-vitals* registers everything that its chart registers. The constant patch is spark-vitals' own.", *creates)
	d.table("on the way", "1 worker: p50", "p99", "added to p50", "8 workers: p50", "p99", "added to p50")
	rows := make([][]any, len(rivals))
	for i, r := range rivals {
		rows[i] = []any{r.name}
	}
	for _, workers := range []int{1, 8} {
		if err := createAll(ctx, c.Client, pod, rivals, workers); err != nil {
			return err
		}
		median := map[string]float64{}
		for _, r := range rivals {
			median[r.namespace] = quantile(r.times, 0.5)
		}
		for i, r := range rivals {
			rows[i] = append(rows[i], fmt.Sprintf("%.2f", median[r.namespace]), fmt.Sprintf("%.1f", quantile(r.times, 0.99)),
				fmt.Sprintf("%.2f", median[r.namespace]-median["nothing"]))
		}
		a.add(fmt.Sprintf("added latency, %d workers: of a constant patch", workers),
			(median["ours"]-median["nothing"])/(median["constant"]-median["nothing"]), 1.2)
	}
	for _, row := range rows {
		d.row(row...)
	}
	return nil
}

func register(ctx context.Context, c *cluster.ControlPlane, pod *corev1.Pod) ([]*rival, error) {
	object, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	handlers := contenders(policy.Default(), object)
	url, err := serveAll(c, handlers)
	if err != nil {
		return nil, err
	}
	rivals := []*rival{
		{namespace: "nothing", name: "nothing"}, {namespace: "policy", name: "MutatingAdmissionPolicy"}, {namespace: "allow", name: "webhook, allow-only"},
		{namespace: "constant", name: "webhook, a constant patch"}, {namespace: "ours", name: "spark-vitals"}, {namespace: "diff", name: "webhook; decode, marshal, diff"},
	}
	for _, r := range rivals {
		labels := map[string]string{"bench": r.namespace}
		switch r.namespace {
		case "nothing":
		case "policy":
			err = registerPolicy(ctx, c.Client, handlers["constant"].Handle(ctx, requestOf(object)).Patches)
		case "ours":
			err = c.Register(ctx, r.namespace, url+"/ours", labels)
			labels[annotations.Inject] = "enabled"
		default:
			err = registerOne(ctx, c, r.namespace, url)
		}
		if err == nil {
			err = c.Namespace(ctx, r.namespace, labels)
		}
		if err != nil {
			return nil, err
		}
		if err := r.takesEffect(ctx, c.Client, pod); err != nil {
			return nil, err
		}
	}
	return rivals, nil
}

// takesEffect waits until pods are changed as expected.
func (r *rival) takesEffect(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) error {
	patched := r.namespace != "nothing" && r.namespace != "allow"
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got, err := client.CoreV1().Pods(r.namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && patched == (got.Spec.Containers[0].ReadinessProbe != nil && got.Annotations[annotations.Injected] != "") {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not do what it is to do: %v, %w", r.name, got, err)
		}
	}
}

// serveAll serves the handlers in this process, as long as it runs.
func serveAll(c *cluster.ControlPlane, handlers map[string]admission.Handler) (url string, err error) {
	if err := c.Authority.Issue(c.Dir, "bench", pkix.Name{CommonName: "bench"}, "127.0.0.1"); err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(c.Dir, "reviews.log"))
	if err != nil {
		return "", err
	}
	paths := map[string]admission.Handler{}
	for name, handler := range handlers {
		paths["/"+name] = handler
		paths["/"+name+"/mutate"] = handler
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // as spark-vitals itself
	server := &http.Server{
		Protocols: protocols,
		Handler:   webhook.Reviews(paths, webhook.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(log, nil))),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
	}
	go func() {
		_ = server.ServeTLS(listener, filepath.Join(c.Dir, "bench.crt"), filepath.Join(c.Dir, "bench.key"))
	}()
	return "https://" + listener.Addr().String(), nil
}

func registerOne(ctx context.Context, c *cluster.ControlPlane, name, url string) error {
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: name + ".example.com", ClientConfig: c.ClientConfig(url + "/" + name), Rules: cluster.CreationOf("pods"),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"bench": name}},
			FailurePolicy:     new(admissionregistrationv1.Fail),
			SideEffects:       new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		}},
	}
	_, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, configuration, metav1.CreateOptions{})
	return err
}

// registerPolicy creates a policy in the API server itself that does what the
// operations do.
func registerPolicy(ctx context.Context, client kubernetes.Interface, operations []jsonpatch.Operation) error {
	var expressions []string
	for _, o := range operations {
		value, err := cel(o.Value)
		if err != nil {
			return err
		}
		expressions = append(expressions, fmt.Sprintf("JSONPatch{op: %q, path: %q, value: %s}", o.Operation, o.Path, value))
	}
	meta := metav1.ObjectMeta{Name: "bench"}
	p := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"bench": "policy"}},
			ResourceRules:     []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: cluster.CreationOf("pods")[0]}},
		},
		FailurePolicy:      new(admissionregistrationv1.Fail),
		ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
		Mutations: []admissionregistrationv1.Mutation{{
			PatchType: admissionregistrationv1.PatchTypeJSONPatch,
			JSONPatch: &admissionregistrationv1.JSONPatch{Expression: "[" + strings.Join(expressions, ", ") + "]"},
		}},
	}}
	if _, err := client.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "bench"}}
	_, err := client.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{})
	return err
}

// cel returns a value as a CEL expression. Members of different types must be dyn.
func cel(value any) (string, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return "", err
	}
	return expression(plain), nil
}

func expression(value any) string {
	switch v := value.(type) {
	case map[string]any:
		var members []string
		for key, member := range v {
			members = append(members, strconv.Quote(key)+": dyn("+expression(member)+")")
		}
		slices.Sort(members)
		return "{" + strings.Join(members, ", ") + "}"
	case []any:
		var members []string
		for _, member := range v {
			members = append(members, "dyn("+expression(member)+")")
		}
		return "[" + strings.Join(members, ", ") + "]"
	case string:
		return strconv.Quote(v)
	case float64:
		return strconv.FormatInt(int64(v), 10)
	default:
		return fmt.Sprint(v)
	}
}

// createAll creates pods, by workers that go from one namespace to the next.
func createAll(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, rivals []*rival, workers int) (err error) {
	var (
		mu   sync.Mutex
		work sync.WaitGroup
	)
	for _, r := range rivals {
		r.times = nil
	}
	for w := range workers {
		work.Go(func() {
			for i := range *creates / workers * len(rivals) {
				r := rivals[(i+w)%len(rivals)]
				begun := time.Now()
				_, failed := client.CoreV1().Pods(r.namespace).Create(ctx, pod, metav1.CreateOptions{})
				took := time.Since(begun)
				mu.Lock()
				r.times = append(r.times, took)
				if failed != nil {
					err = failed
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return err
}
