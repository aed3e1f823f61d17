package check

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	certutil "k8s.io/client-go/util/cert"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// For the engines, the requested pod is a driver made by Spark.
func TestDriverIsSparks(t *testing.T) {
	if pod, err := spark.PodOf(driver()); err != nil || pod.Role != spark.Driver {
		t.Errorf("%+v, %v", pod, err)
	}
}

func TestInjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := answering(t, 5*time.Millisecond, `{}`)
		if got, err := Injection(t.Context(), client, "check", Engine{Webhook: "spark-vitals"}); err != nil || got.String() != "{}; the API server took 5ms for the pod, and 1ms for one that is not Spark's" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// If the webhook cannot be reached, each Spark pod is delayed. The check says by how
// long, whatever the timeout: no call is cut off.
func TestDelay(t *testing.T) {
	const said = ", and until that is fixed each Spark pod and driver Service is created "
	for took, want := range map[time.Duration]string{
		time.Second:            "got no probes" + said + "1s later (at most webhook.timeoutSeconds): there is no mutating webhook configuration",
		3 * time.Second:        said + "3s later",
		30 * time.Second:       said + "30s later",
		150 * time.Millisecond: "got no probes: there is no mutating webhook configuration",
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := Injection(t.Context(), answering(t, took, ""), "check", Engine{Webhook: "spark-vitals"})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", took, err)
			}
		})
	}
}

// answering is an API server that needs some time for Spark's pods, and a millisecond
// for others.
func answering(t *testing.T, took time.Duration, stamp string) *fake.Clientset {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create := a.(clienttesting.CreateActionImpl)
		if len(create.CreateOptions.DryRun) == 0 {
			t.Error("a pod would be made")
		}
		pod := create.Object.(*corev1.Pod).DeepCopy()
		if pod.Labels[spark.RoleLabel] == "" {
			time.Sleep(time.Millisecond)
			return true, pod, nil
		}
		time.Sleep(took)
		if stamp != "" {
			pod.Annotations = map[string]string{annotations.Injected: stamp}
		}
		return true, pod, nil
	})
	return client
}

// The check distinguishes the usual causes.
func TestWhyNot(t *testing.T) {
	ca, key, err := certutil.GenerateSelfSignedCertKey("webhook.spark-vitals.svc", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	anotherCA, _, err := certutil.GenerateSelfSignedCertKey("webhook.spark-vitals.svc", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()
	conditioned := func(change func(*admissionregistrationv1.MutatingWebhook)) *admissionregistrationv1.MutatingWebhookConfiguration {
		r := registration(ca)
		change(&r.Webhooks[2])
		return r
	}
	users := metav1.LabelSelectorRequirement{Key: "team", Operator: metav1.LabelSelectorOpExists}
	for name, test := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"no registration": {nil, "there is no mutating webhook configuration spark-vitals"},
		"no entry":        {[]runtime.Object{&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals"}}}, "has no entry for pods"},
		"no CA":           {[]runtime.Object{registration(nil)}, "the caBundle of the webhook configuration is empty"},
		"no webhook":      {[]runtime.Object{registration(ca)}, "no webhook is ready"},
		"not ready":       {[]runtime.Object{registration(ca), slice(t, server.Listener.Addr(), false)}, "no webhook is ready"},
		"another CA":      {[]runtime.Object{registration(anotherCA), slice(t, server.Listener.Addr(), true)}, "its certificate is not one that the API server trusts"},
		"broken CA":       {[]runtime.Object{registration([]byte("CA")), slice(t, server.Listener.Addr(), true)}, "holds no certificate"},
		"refused":         {[]runtime.Object{registration(ca), slice(t, closed(t), true)}, "connection refused"},
		"a firewall":      {[]runtime.Object{registration(ca), slice(t, server.Listener.Addr(), true)}, "so the API server cannot reach them"},
		"a user's condition on namespaces": {[]runtime.Object{conditioned(func(w *admissionregistrationv1.MutatingWebhook) {
			w.NamespaceSelector.MatchExpressions = append(w.NamespaceSelector.MatchExpressions, users)
		}), slice(t, server.Listener.Addr(), true)}, "your webhook.namespaceSelector probably left out the test's pod:"},
		"a user's conditions on pods": {[]runtime.Object{conditioned(func(w *admissionregistrationv1.MutatingWebhook) {
			w.ObjectSelector.MatchExpressions = append(w.ObjectSelector.MatchExpressions, users)
			w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "false"}}
		}), slice(t, server.Listener.Addr(), true)}, "your webhook.objectSelector or webhook.matchConditions probably left out the test's pod:"},
		"no webhook for a user's conditions": {[]runtime.Object{conditioned(func(w *admissionregistrationv1.MutatingWebhook) {
			w.ObjectSelector.MatchExpressions = append(w.ObjectSelector.MatchExpressions, users)
		})}, "no webhook is ready"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Engine{Webhook: "spark-vitals"}.why(context.Background(), fake.NewClientset(test.objects...))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q, got: %v", test.want, err)
			}
		})
	}
}

// The check distinguishes the usual causes with an admission policy, too.
func TestWhyNotByPolicy(t *testing.T) {
	const name = "spark-vitals-inject-drivers"
	expressions := func(n int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: make([]metav1.LabelSelectorRequirement, n)}
	}
	policy := func(namespaces, objects int, cel ...admissionregistrationv1.MatchCondition) *admissionregistrationv1.MutatingAdmissionPolicy {
		return &admissionregistrationv1.MutatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
				MatchConstraints: &admissionregistrationv1.MatchResources{NamespaceSelector: expressions(namespaces), ObjectSelector: expressions(objects)},
				MatchConditions:  cel,
			},
		}
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for what, test := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"no policy":                        {[]runtime.Object{binding}, "there is no MutatingAdmissionPolicy " + name},
		"no binding":                       {[]runtime.Object{policy(3, 1)}, "has no binding of its name; it may have been deleted as an emergency stop"},
		"both":                             {[]runtime.Object{policy(3, 1), binding}, "exist, so the API server fails to evaluate them"},
		"a user's condition on namespaces": {[]runtime.Object{policy(4, 1), binding}, "exist, so your webhook.namespaceSelector probably left out the test's pod:"},
		"a user's conditions on pods": {
			[]runtime.Object{policy(3, 2, admissionregistrationv1.MatchCondition{Name: "a", Expression: "false"}), binding},
			"exist, so your webhook.objectSelector or webhook.matchConditions probably left out the test's pod:",
		},
	} {
		t.Run(what, func(t *testing.T) {
			err := Engine{Policy: name}.why(context.Background(), fake.NewClientset(test.objects...))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q, got: %v", test.want, err)
			}
		})
	}
}

// registration returns a registration of the Service spark-vitals/webhook.
func registration(ca []byte) *admissionregistrationv1.MutatingWebhookConfiguration {
	entry := func(resource, mode string) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Rules:             []admissionregistrationv1.RuleWithOperations{{Rule: admissionregistrationv1.Rule{Resources: []string{resource}}}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{annotations.Inject: mode}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"spark-vitals"}}}},
			ObjectSelector:    &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: spark.RoleLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{"driver", "executor"}}}},
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{CABundle: ca, Service: &admissionregistrationv1.ServiceReference{Namespace: "spark-vitals", Name: "webhook"}},
		}
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals"},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{entry("services", "enabled"), entry("pods", "audit"), entry("pods", "enabled")},
	}
}

func slice(t *testing.T, address net.Addr, ready bool) *discoveryv1.EndpointSlice {
	t.Helper()
	host, text, err := net.SplitHostPort(address.String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "webhook-1", Labels: map[string]string{discoveryv1.LabelServiceName: "webhook"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{host}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:      []discoveryv1.EndpointPort{{Port: new(int32(port))}},
	}
}

func closed(t *testing.T) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr()
}

// A record is asked about as it is written: all keys, on the status.
func TestRecord(t *testing.T) {
	client := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}})
	if err := Record(t.Context(), client, "a", "b"); err != nil {
		t.Fatal(err)
	}
	patch := client.Actions()[0].(clienttesting.PatchActionImpl)
	if patch.Subresource != "status" || len(patch.PatchOptions.DryRun) != 1 || !strings.Contains(string(patch.Patch), annotations.OOM) {
		t.Errorf("%+v", patch)
	}
	if err := Record(t.Context(), client, "a", "c"); err == nil || !strings.HasPrefix(err.Error(), "writing a record: ") {
		t.Error(err)
	}
}
