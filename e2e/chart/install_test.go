package chart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// The API server accepts what the chart renders: each object of each golden file, and
// each hook, without an unknown field.
func TestServerTakesEveryObject(t *testing.T) {
	for _, name := range []string{"spark-vitals", "spark-vitals-check", "team-a", "team-b", "kyuubi"} {
		namespace(t, name)
	}
	for _, account := range []string{"spark-vitals-check", "spark-vitals-recorder", "spark-recorder", "123"} {
		_, err := admin.CoreV1().ServiceAccounts("spark-vitals").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range goldens(t) {
		if g.Part("error") != nil {
			continue
		}
		rendered, err := g.render()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects(t, rendered.Objects+rendered.Hooks) {
			if strings.HasPrefix(o.GetAPIVersion(), "monitoring.coreos.com/") {
				continue // another project's CRD
			}
			apply(t, o, metav1.DryRunAll)
		}
	}
}

// apply applies an object by server-side apply. The namespace of a release is
// spark-vitals.
func apply(t *testing.T, o *unstructured.Unstructured, dryRun ...string) {
	t.Helper()
	resource := resourceOf(t, o)
	data, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	_, err = resource.Patch(t.Context(), o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
		FieldManager: "test", Force: new(true), DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
}

// resourceOf returns the resource of an object, in its namespace or in the release's.
func resourceOf(t *testing.T, o *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(controlPlane.Config)
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
	if err != nil {
		t.Fatal(err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return client.Resource(mapping.Resource).Namespace(cmp.Or(o.GetNamespace(), "spark-vitals"))
	}
	o.SetNamespace("")
	return client.Resource(mapping.Resource)
}

func objects(t *testing.T, documents string) (all []*unstructured.Unstructured) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(documents), 1<<20)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		switch {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		case len(o.Object) > 0:
			all = append(all, o)
		}
	}
}

// install installs the chart without hooks until the test ends. There are no nodes, so
// no pod runs.
func install(t *testing.T, name string, values map[string]any) *helm.Helm {
	t.Helper()
	h, err := helm.New(controlPlane.Kubeconfig, name, name)
	if err != nil {
		t.Fatal(err)
	}
	h.NoHooks = true
	if err := h.Install(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Uninstall(); err != nil && !strings.Contains(err.Error(), "not found") {
			t.Error(err)
		}
	})
	return h
}

// leftovers returns the objects of a release, of any kind, without those that have an
// owner: a controller deletes them with the owner, and none runs here.
func leftovers(ctx context.Context, t *testing.T, release string) (left []string) {
	t.Helper()
	left, err := cluster.Objects(ctx, controlPlane.Config, func(o metav1.ObjectMeta) bool {
		return o.Labels["app.kubernetes.io/instance"] == release && len(o.OwnerReferences) == 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// The certificate and the trust in it stay the same during install, upgrade and
// rollback, and uninstall leaves nothing behind.
func TestLifeOfARelease(t *testing.T) {
	h := install(t, "life", nil)
	ctx := t.Context()
	secrets := admin.CoreV1().Secrets("life")
	secret, err := secrets.Get(ctx, "life-spark-vitals-certs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{"ca.crt": []byte("CA"), "tls.crt": []byte("certificate")}
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: "keeper"}); err != nil {
		t.Fatal(err)
	}
	configMaps := admin.CoreV1().ConfigMaps("life")
	configMap, err := configMaps.Get(ctx, "life-spark-vitals-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	configMap.Data = map[string]string{"ca.crt": "CA", "revision": configMap.Annotations["spark-vitals.io/revision"]}
	if _, err := configMaps.Update(ctx, configMap, metav1.UpdateOptions{FieldManager: "keeper"}); err != nil {
		t.Fatal(err)
	}
	trust(t, "life", "life-spark-vitals")
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"upgrade", func() error { return h.Upgrade(ctx, map[string]any{"policy": "ruleSet: gentle"}) }},
		{"rollback", h.Rollback},
	} {
		if err := change.do(); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		secret, err := secrets.Get(ctx, "life-spark-vitals-certs", metav1.GetOptions{})
		if err != nil || string(secret.Data["tls.crt"]) != "certificate" {
			t.Errorf("after the %s the Secret holds %v, %v", change.what, secret.Data, err)
		}
		if configMap, err := configMaps.Get(ctx, "life-spark-vitals-ca", metav1.GetOptions{}); err != nil || configMap.Data["ca.crt"] != "CA" {
			t.Errorf("after the %s the ConfigMap holds %v, %v", change.what, configMap.Data, err)
		}
		for _, bundle := range bundles(t, "life-spark-vitals") {
			if string(bundle) != "CA" {
				t.Errorf("after the %s a caBundle is %q", change.what, bundle)
			}
		}
	}
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "nothing is left", func(ctx context.Context) error {
		if left := leftovers(ctx, t, "life"); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// If Helm was interrupted, its hook's right on webhook configurations still exists. It
// ends with the release.
func TestUninstallEndsTheHooksRights(t *testing.T) {
	h := install(t, "broken", nil)
	applyHooks(t, "broken")
	hook := withToken(t, "broken", "broken-spark-vitals-certs-trust")
	read := func(ctx context.Context) error { return reads(ctx, hook, "broken-spark-vitals") }
	eventually.Succeeds(t, "the hook's right", read)
	h.NoHooks = false
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the end of the hook's right", func(ctx context.Context) error {
		err := read(ctx)
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return nil
		}
		return fmt.Errorf("it reads webhook configurations: %w", err)
	})
	_, err := admin.RbacV1().ClusterRoleBindings().Get(t.Context(), "broken-spark-vitals-certs-trust", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("its binding is left: %v", err)
	}
}

// reads reads a webhook configuration.
func reads(ctx context.Context, client kubernetes.Interface, configuration string) error {
	_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	return err
}

func bundles(t *testing.T, configuration string) (all [][]byte) {
	t.Helper()
	m, err := admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) { // there is one with validation: deny
		t.Fatal(err)
	}
	for _, w := range m.Webhooks {
		all = append(all, w.ClientConfig.CABundle)
	}
	for _, w := range v.Webhooks {
		all = append(all, w.ClientConfig.CABundle)
	}
	return all
}
