package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/certs"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

var (
	crds         = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	certificates = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}
)

// cert-manager's own controllers issue the webhook's certificate and make the API
// server trust it. Both are renewed, and the CA too, and no call is missed.
func TestCertManager(t *testing.T) {
	const name, configuration = "cm", "cm-spark-vitals"
	binary, err := cluster.Build(t.Context(), "e2e/addons/certmanager", "certmanager", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	background(t, binary, controlPlane.Kubeconfig)
	values := map[string]any{
		"guards": map[string]any{"enabled": false}, "recorder": map[string]any{"enabled": false}, "webhook": map[string]any{"timeoutSeconds": patience},
		// An hour is the shortest that cert-manager allows. Renewed after 10 s.
		"certificates": map[string]any{"mode": "cert-manager", "duration": "1h", "renewBefore": "59m50s"},
	}
	h := install(t, name, values)
	eventually.Succeeds(t, "the CA is in the webhook configurations", func(ctx context.Context) error {
		return trusts(ctx, t, name, configuration)
	})
	values["policy"] = "ruleSet: gentle"
	if err := h.Upgrade(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	if err := trusts(t.Context(), t, name, configuration); err != nil {
		t.Errorf("after an upgrade: %v", err)
	}

	c := call(t, name, configuration)
	c.over(t, 1, 1)
	renew(t, name, configuration+"-ca")
	c.over(t, *renewals, 2)
	if len(c.bundles) != 2 {
		t.Errorf("%d CAs were trusted, not 2: one, and that one renewed", len(c.bundles))
	}
	c.end(t)

	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "nothing is left", func(ctx context.Context) error {
		left := leftovers(ctx, t, name)
		secrets, err := admin.CoreV1().Secrets(name).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, s := range secrets.Items {
			if len(s.OwnerReferences) == 0 { // else it goes with its owner
				left = append(left, s.Name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// trusts reports whether the webhook configurations trust the certificate in the
// Secret.
func trusts(ctx context.Context, t *testing.T, namespace, configuration string) error {
	t.Helper()
	secret, err := admin.CoreV1().Secrets(namespace).Get(ctx, configuration+"-certs", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(secret.Data[corev1.TLSCertKey]) == 0 {
		return errors.New("the Secret is empty")
	}
	for _, bundle := range bundles(t, configuration) {
		if !bytes.Equal(bundle, secret.Data[certs.CAKey]) {
			return fmt.Errorf("the configuration trusts %q, and the Secret holds %q", bundle, secret.Data[certs.CAKey])
		}
	}
	return nil
}

// renew renews a Certificate, as "cmctl renew" does.
func renew(t *testing.T, namespace, name string) {
	t.Helper()
	client, err := dynamic.NewForConfig(controlPlane.Config)
	if err != nil {
		t.Fatal(err)
	}
	resource := client.Resource(certificates).Namespace(namespace)
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error { // with cert-manager, which writes there too
		certificate, err := resource.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(certificate.Object, "status", "conditions")
		conditions = append(conditions, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		})
		if err := unstructured.SetNestedSlice(certificate.Object, conditions, "status", "conditions"); err != nil {
			return err
		}
		_, err = resource.UpdateStatus(t.Context(), certificate, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// applyCRDs creates cert-manager's CRDs.
func applyCRDs(ctx context.Context) error {
	client, err := dynamic.NewForConfig(controlPlane.Config)
	if err != nil {
		return err
	}
	dir, err := cluster.CertManagerCRDs(ctx)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &crd.Object); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if _, err := client.Resource(crds).Create(ctx, crd, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 3*time.Minute, true, func(context.Context) (bool, error) {
		_, served, _ := admin.Discovery().ServerGroupsAndResources() // some groups may not be ready
		n := 0
		for _, group := range served {
			for _, r := range group.APIResources {
				if strings.HasSuffix(group.GroupVersion, "cert-manager.io/v1") && !strings.Contains(r.Name, "/") {
					n++
				}
			}
		}
		return n == len(files), nil
	})
}
