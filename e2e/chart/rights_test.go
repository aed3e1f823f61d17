package chart

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

func manifest(t *testing.T, path string) string {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func typed[T any](t *testing.T, o *unstructured.Unstructured) (object T) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// If the lease does not exist, the leader creates it, only in its own namespace, and it
// updates no other lease.
func TestLeadersMakeTheirLease(t *testing.T) {
	const name = "lease"
	install(t, name, map[string]any{
		"stallwatch": map[string]any{"enabled": true}, "releaser": map[string]any{"enabled": true, "config": map[string]any{"namespaces": []any{name}}},
		"guards": map[string]any{"enabled": false},
	})
	for _, component := range []string{"releaser", "stallwatch"} {
		ctx, leases := t.Context(), withToken(t, name, name+"-spark-vitals-"+component).CoordinationV1()
		own := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals-" + component}}
		if err := admin.CoordinationV1().Leases(name).Delete(ctx, own.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		var made *coordinationv1.Lease
		eventually.Succeeds(t, "the right to make a lease", func(ctx context.Context) (err error) { // some moments after the installation
			made, err = leases.Leases(name).Create(ctx, own, metav1.CreateOptions{})
			return err
		})
		if _, err := leases.Leases(name).Update(ctx, made, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
		other, err := admin.CoordinationV1().Leases(name).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{GenerateName: "other-"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, update := leases.Leases(name).Update(ctx, other, metav1.UpdateOptions{})
		_, elsewhere := leases.Leases("default").Create(ctx, own, metav1.CreateOptions{})
		if !apierrors.IsForbidden(update) || !apierrors.IsForbidden(elsewhere) {
			t.Errorf("%s updates another lease: %v; makes one elsewhere: %v", component, update, elsewhere)
		}
	}
}

// Each container of the chart and of the manifests has a command and flags that the
// program accepts.
func TestArgumentsAreFlags(t *testing.T) {
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	documents := []string{manifest(t, "gateway/releaser/manifest.yaml")}
	for _, g := range goldens(t) {
		if g.Part("error") == nil {
			rendered, err := g.render()
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, rendered.Objects, rendered.Hooks)
		}
	}
	commands := map[string]bool{}
	for _, o := range objects(t, strings.Join(documents, "\n---\n")) {
		for _, container := range containers(t, o) {
			var words []string
			for _, arg := range container.Args {
				if strings.ContainsAny(arg, "-/") {
					break
				}
				words = append(words, arg)
			}
			commands[strings.Join(words, " ")] = true
			// Flags are parsed before help is given, and nothing is run.
			out, err := exec.CommandContext(t.Context(), binary, append(container.Args, "--help")...).CombinedOutput()
			if usage := "Usage:\n  spark-vitals " + strings.Join(words, " ") + " "; err != nil || !strings.Contains(string(out), usage) {
				t.Errorf("%s %s: %v: %v\n%s", o.GetKind(), o.GetName(), container.Args, err, out)
			}
		}
	}
	for _, command := range []string{"webhook", "recorder", "releaser", "stallwatch", "certs keep", "certs trust", "policy", "check injection", "check record"} {
		if !commands[command] {
			t.Errorf("nothing runs %q", command)
		}
	}
}

// containers returns the containers of a Deployment, Job or Pod.
func containers(t *testing.T, o *unstructured.Unstructured) []corev1.Container {
	t.Helper()
	return podOf(t, o).Spec.Containers
}

// podOf returns the pod template of a Deployment or Job, or a Pod itself; for other
// objects one without containers.
func podOf(t *testing.T, o *unstructured.Unstructured) corev1.PodTemplateSpec {
	t.Helper()
	switch o.GetKind() {
	case "Pod":
		pod := typed[corev1.Pod](t, o)
		return corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	case "Deployment":
		return typed[appsv1.Deployment](t, o).Spec.Template
	case "Job":
		return typed[batchv1.Job](t, o).Spec.Template
	}
	return corev1.PodTemplateSpec{}
}

// Hooks run in clusters where all pods need resources, annotations or a NetworkPolicy,
// so their pods have what the other pods have. Hooks that only check values run before
// there is a NetworkPolicy, and need no network.
func TestEveryPod(t *testing.T) {
	rendered, err := helm.Render(map[string]any{
		"podAnnotations": map[string]any{"example.com/a": "b"}, "networkPolicy": map[string]any{"enabled": true}, "stallwatch": map[string]any{"enabled": true},
		"releaser": map[string]any{"enabled": true, "config": map[string]any{"namespaces": []any{"spark"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	all, pods := objects(t, rendered.Objects+rendered.Hooks), 0
	for _, o := range all {
		pod := podOf(t, o)
		if len(pod.Spec.Containers) == 0 {
			continue
		}
		pods++
		r := pod.Spec.Containers[0].Resources
		if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
			t.Errorf("%s %s: resources %v", o.GetKind(), o.GetName(), r)
		}
		if pod.Annotations["example.com/a"] != "b" {
			t.Errorf("%s %s: annotations %v", o.GetKind(), o.GetName(), pod.Annotations)
		}
		selected := slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool {
			return o.GetKind() == "NetworkPolicy" && labels.SelectorFromSet(typed[networkingv1.NetworkPolicy](t, o).Spec.PodSelector.MatchLabels).Matches(labels.Set(pod.Labels))
		})
		if !selected && !slices.Contains([]string{"spark-vitals-policy-check", "spark-vitals-releaser-check"}, o.GetName()) {
			t.Errorf("%s %s: no NetworkPolicy of %v", o.GetKind(), o.GetName(), pod.Labels)
		}
	}
	if pods != 10 {
		t.Errorf("%d kinds of pods were looked at", pods)
	}
}

// The values of docs/operations.md that stop everything select no namespace.
func TestStopByValue(t *testing.T) {
	page := manifest(t, "docs/operations.md")
	_, rest, _ := strings.Cut(page, "```yaml\nwebhook: {namespaceSelector")
	block, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no such values")
	}
	var documents strings.Builder
	for _, head := range []string{"webhook: {validation: deny, namespaceSelector", "engine: policy\nwebhook: {namespaceSelector"} {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(head+block), &values); err != nil {
			t.Fatal(err)
		}
		rendered, err := helm.Render(values, servesPolicies)
		if err != nil {
			t.Fatal(err)
		}
		documents.WriteString(rendered.Objects)
	}
	selectors := 0
	selectsNone := func(what string, namespaces *metav1.LabelSelector) {
		selector, err := metav1.LabelSelectorAsSelector(namespaces)
		if err != nil {
			t.Fatal(err)
		}
		selectors++
		for _, namespace := range []labels.Set{nil, {"spark-vitals.io/inject": "enabled"}, {"spark-vitals.io/inject": "audit"}} {
			if selector.Matches(namespace) {
				t.Errorf("%s is called in a namespace with %v", what, namespace)
			}
		}
	}
	for _, o := range objects(t, documents.String()) {
		if strings.HasPrefix(o.GetKind(), "ValidatingAdmissionPolicy") {
			t.Errorf("the guard %s is there", o.GetName())
		}
		switch o.GetKind() {
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			for _, webhook := range typed[admissionregistrationv1.ValidatingWebhookConfiguration](t, o).Webhooks {
				selectsNone(webhook.Name, webhook.NamespaceSelector)
			}
		case "MutatingAdmissionPolicy":
			selectsNone(o.GetName(), typed[admissionregistrationv1.MutatingAdmissionPolicy](t, o).Spec.MatchConstraints.NamespaceSelector)
		}
	}
	if selectors != 8 {
		t.Errorf("%d webhooks and policies were looked at", selectors)
	}
}

// A null removes the user, because OpenShift gives each namespace its own user and
// refuses others.
func TestNullRemovesTheUser(t *testing.T) {
	rendered, err := helm.Render(map[string]any{"podSecurityContext": map[string]any{"runAsUser": nil, "runAsGroup": nil}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, rendered.Objects+rendered.Hooks) {
		pod := podOf(t, o)
		if c := pod.Spec.SecurityContext; len(pod.Spec.Containers) > 0 && (c.RunAsUser != nil || c.RunAsGroup != nil || c.RunAsNonRoot == nil) {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), c)
		}
	}
}
