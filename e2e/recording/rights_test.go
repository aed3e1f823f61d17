package recording

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// The recorder has these rights, and does not have the others. All other tests here
// show that its rights suffice.
func TestRights(t *testing.T) {
	const mine = "spark-vitals"
	tests := []struct {
		verb, group, resource, subresource string
		allowed                            bool
	}{
		{"patch", "", "pods", "status", true},
		{"patch", "", "pods", "", false},
		{"update", "", "pods", "", false},
		{"update", "", "pods", "status", false},
		{"delete", "", "pods", "", false},
		{"create", "", "pods", "", false},
		{"create", "", "pods", "exec", false},
		{"get", "", "pods", "log", false},
		{"get", "", "configmaps", "", false},
		{"get", "", "secrets", "", false},
		{"create", "", "events", "", false},
		{"update", "events.k8s.io", "events", "", false},
		{"patch", "sparkoperator.k8s.io", "sparkapplications", "", false},
		{"get", "", "namespaces", "", false},
	}
	for _, test := range tests {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + mine + ":" + "spark-vitals-recorder",
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "any", Verb: test.verb, Group: test.group, Resource: test.resource, Subresource: test.subresource,
			},
		}}
		answer := must(kubelet.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{}))(t)
		if answer.Status.Allowed != test.allowed {
			t.Errorf("%s %s/%s of %q: allowed is %t", test.verb, test.resource, test.subresource, test.group, answer.Status.Allowed)
		}
	}
}

// With the right to read ConfigMaps, the heap of a driver is not an estimate, and
// nothing else of the ConfigMap is published.
func TestReadConfigMaps(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	// An account of its own, so that the others go on without the right.
	if err := controlPlane.Namespace(t.Context(), "spark-vitals-configmaps", nil); err != nil {
		t.Fatal(err)
	}
	rights := must(helm.Rights("spark-vitals-configmaps", "recorder", map[string]any{"recorder": map[string]any{"readConfigMaps": true}}))(t)
	r := startWith(t, must(controlPlane.Allow(t.Context(), rights, ""))(t), "--read-configmaps")
	d := driver(t, namespace, "etl")
	name := ""
	for _, v := range d.Spec.Volumes {
		if v.ConfigMap != nil {
			name = v.ConfigMap.Name
		}
	}
	must(kubelet.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"spark.properties": "spark.secret=x\nspark.driver.memory=600m\n"},
	}, metav1.CreateOptions{}))(t)
	die(t, d, "OOMKilled", 137)
	eventually.True(t, "the record", func() bool { got := record(t, d); return got.Driver != nil })
	if got := record(t, d).Driver; got.HeapMiB != 600 || got.Estimated {
		t.Errorf("%+v", got)
	}
	if n := metric(t, r, "spark_vitals_recorder_errors_total", ""); n != 0 {
		t.Errorf("%v calls failed", n)
	}
}

// The rights of a recorder with --namespaces suffice there, and it has none elsewhere.
// It records deaths there whether or not the namespace opted in.
func TestConfined(t *testing.T) {
	namespace, other := newNamespace(t, ""), "confined-other"
	const account = "spark-vitals-confined"
	for name, labels := range map[string]map[string]string{account: nil, other: {annotations.Inject: "enabled"}} {
		if err := controlPlane.Namespace(t.Context(), name, labels); err != nil {
			t.Fatal(err)
		}
	}
	rights := must(helm.Rights(account, "recorder", map[string]any{"recorder": map[string]any{"namespaces": []any{namespace}}}))(t)
	r := startWith(t, must(controlPlane.Allow(t.Context(), rights, ""))(t), "--namespaces="+namespace)
	out := die(t, driver(t, other, "out"), "OOMKilled", 137)
	in := die(t, driver(t, namespace, "in"), "OOMKilled", 137)
	eventually.True(t, "the death is recorded and reported", func() bool { return live(t, in).Annotations[annotations.State] != "" && reported(t, in) != "" })
	if got := live(t, out).Annotations; got[annotations.State] != "" {
		t.Errorf("recorded elsewhere: %v", got)
	}
	if n := metric(t, r, "spark_vitals_recorder_errors_total", `call="event"`) + metric(t, r, "spark_vitals_recorder_errors_total", `call="record"`); n != 0 {
		t.Errorf("%v calls failed", n)
	}
}

// The recorder counts a pod that the webhook should have seen and did not see.
func TestMissedInjections(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	r := start(t)
	driver(t, namespace, "unseen")
	eventually.True(t, "one missed", func() bool { return metric(t, r, "spark_vitals_missed_injections", namespace) == 1 })
}
