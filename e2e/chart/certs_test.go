package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/certs"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/captured"
)

var renewals = flag.Int("renewals", 4, "how many renewals of a certificate to watch")

// trust runs what the chart's hook runs.
func trust(t *testing.T, namespace, configuration string) {
	t.Helper()
	if err := certs.Trust(t.Context(), admin, namespace, configuration+"-certs", configuration, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// The keeper and the hook with exactly the rights that the chart gives them, and
// a webhook that is called while its certificate is renewed again and again:
// each call is answered, and whoever connects anew trusts what it sees.
func TestRenewalsInterruptNothing(t *testing.T) {
	const name = "certs"
	install(t, name, map[string]any{"guards": map[string]any{"enabled": false}, "recorder": map[string]any{"enabled": false}})
	applyHooks(t, name)
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	const secret, configuration = name + "/certs-spark-vitals-certs", "certs-spark-vitals"
	background(t, binary, "certs", "keep", "--kubeconfig="+tokenKubeconfig(t, name, "certs-spark-vitals-certs"), "--secret="+secret,
		"--host=127.0.0.1", "--duration=60s", "--renew-before=50s", "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0")
	out, err := exec.CommandContext(t.Context(), binary, "certs", "trust", "--kubeconfig="+tokenKubeconfig(t, name, "certs-spark-vitals-certs-trust"),
		"--secret="+secret, "--webhook-configuration="+configuration).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ca := bundles(t, configuration)[0]
	dir := t.TempDir()
	mount := &volume{t: t, dir: dir}
	mount.update(t.Context())
	go mount.follow(t.Context())
	url := serve(t, binary, dir)
	redirect(t, configuration, url)

	site := namespaceWith(t, name+"-site", map[string]string{annotations.Inject: "enabled"})
	pod, err := cluster.CapturedPod(captured.Reviews()[0], site)
	for _, review := range captured.Reviews() {
		if strings.HasSuffix(review.Name, "4.1.4/driver") {
			pod, err = cluster.CapturedPod(review, site)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	create := func(ctx context.Context) error {
		made, err := admin.CoreV1().Pods(site).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && made.Annotations[annotations.Injected] == "" {
			err = errors.New("nothing was injected")
		}
		return err
	}
	until(t, "the registration", create)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	calls, serials := 0, map[string]bool{}
	for len(serials) <= *renewals {
		if err := create(t.Context()); err != nil {
			t.Fatalf("after %d calls and %d certificates: %v", calls, len(serials), err)
		}
		connection, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{RootCAs: roots})
		if err != nil {
			t.Fatalf("after %d calls and %d certificates: %v", calls, len(serials), err)
		}
		serials[connection.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
		connection.Close()
		calls++
	}
	for _, bundle := range bundles(t, configuration) {
		if diff := cmp.Diff(string(ca), string(bundle)); diff != "" {
			t.Errorf("the CA changed:\n%s", diff)
		}
	}
	t.Logf("%d creations over %d renewals, none missed", calls, mount.renewals.Load())
	rightsOfTheKeeper(t, name)
}

// rightsOfTheKeeper are on its own Secret; on webhook configurations nobody keeps one.
func rightsOfTheKeeper(t *testing.T, name string) {
	t.Helper()
	ctx, keeper := t.Context(), withToken(t, name, name+"-spark-vitals-certs")
	_, err := keeper.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name+"-spark-vitals", metav1.GetOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("the keeper may read webhook configurations: %v", err)
	}
	if _, err := keeper.CoreV1().Secrets(name).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the keeper may list Secrets: %v", err)
	}
	if _, err := keeper.CoreV1().Secrets(name).Get(ctx, "another", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the keeper may read another Secret: %v", err)
	}
	if _, err := keeper.CoreV1().Secrets(name).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the keeper may make Secrets: %v", err)
	}
}

// volume is a Secret as a kubelet mounts it: a link to a folder that is swapped.
type volume struct {
	t        *testing.T
	dir      string
	seen     string
	renewals atomic.Int32
}

func (v *volume) update(ctx context.Context) {
	secret, err := admin.CoreV1().Secrets("certs").Get(ctx, "certs-spark-vitals-certs", metav1.GetOptions{})
	if err != nil || secret.ResourceVersion == v.seen {
		return
	}
	if v.seen != "" {
		v.renewals.Add(1)
	}
	v.seen = secret.ResourceVersion
	folder := filepath.Join(v.dir, secret.ResourceVersion)
	_ = os.Mkdir(folder, 0o755)
	for _, key := range []string{certs.CertKey, certs.KeyKey} {
		_ = os.WriteFile(filepath.Join(folder, key), secret.Data[key], 0o600)
		_ = os.Symlink(filepath.Join("..data", key), filepath.Join(v.dir, key))
	}
	_ = os.Symlink(secret.ResourceVersion, filepath.Join(v.dir, "..new"))
	if err := os.Rename(filepath.Join(v.dir, "..new"), filepath.Join(v.dir, "..data")); err != nil {
		v.t.Error(err)
	}
}

func (v *volume) follow(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(time.Second) {
		v.update(ctx)
	}
}

// background runs a command until the test ends.
func background(t *testing.T, binary string, args ...string) {
	t.Helper()
	var log strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("%v ended (%v):\n%s", args[:2], err, log.String())
		}
	})
}

// serve runs a webhook with the certificate of a folder, and returns its URL.
func serve(t *testing.T, binary, dir string) string {
	t.Helper()
	address := freeAddress(t)
	background(t, binary, "webhook", "--cert-dir="+dir, "--bind-address="+address, "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0", "--shutdown-delay=0s")
	return "https://" + address
}

// redirect the configurations to a webhook beside the cluster: without nodes
// their Service leads nowhere. The trust stays.
func redirect(t *testing.T, configuration, url string) {
	t.Helper()
	mutating, validating := admin.AdmissionregistrationV1().MutatingWebhookConfigurations(), admin.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	m, err := mutating.Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := validating.Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := func(c *admissionregistrationv1.WebhookClientConfig) {
		*c = admissionregistrationv1.WebhookClientConfig{URL: new(url + *c.Service.Path), CABundle: c.CABundle}
	}
	for i := range m.Webhooks {
		there(&m.Webhooks[i].ClientConfig)
	}
	for i := range v.Webhooks {
		there(&v.Webhooks[i].ClientConfig)
	}
	_, err = mutating.Update(t.Context(), m, metav1.UpdateOptions{})
	_, inErr := validating.Update(t.Context(), v, metav1.UpdateOptions{})
	if err := errors.Join(err, inErr); err != nil {
		t.Fatal(err)
	}
}

// applyHooks makes the hooks' accounts and roles, which Helm would make for as
// long as an installation takes.
func applyHooks(t *testing.T, name string) {
	t.Helper()
	rendered, err := helm.Render(map[string]any{"fullnameOverride": name + "-spark-vitals"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, strings.ReplaceAll(rendered.Hooks, "namespace: spark-vitals", "namespace: "+name)) {
		if strings.HasSuffix(o.GetName(), "-certs-trust") && o.GetKind() != "Job" {
			apply(t, o)
		}
	}
}

// Those without Helm get the same, as plain manifests.
func TestPlainManifests(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	for mode, head := range map[string]string{
		"cert-manager": "# The webhook's certificate by cert-manager. Annotate the webhook configurations with\n# cert-manager.io/inject-ca-from: spark-vitals/spark-vitals-certs.\n",
		"self-kept":    "# The webhook's certificate kept by spark-vitals itself. When the Job is done, delete\n# everything called spark-vitals-certs-trust: nobody keeps a right on webhook configurations.\n",
	} {
		rendered, err := helm.Render(map[string]any{"certificates": map[string]any{"mode": mode}})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		text.WriteString(head)
		for _, document := range strings.Split(rendered.Objects+rendered.Hooks, "---\n# Source: spark-vitals/templates/")[1:] {
			source, manifest, _ := strings.Cut(document, "\n")
			if !strings.HasPrefix(source, "certificates") {
				continue
			}
			for _, o := range objects(t, manifest) {
				data, err := yaml.Marshal(plain(o).Object)
				if err != nil {
					t.Fatal(err)
				}
				text.WriteString("---\n" + string(data))
			}
		}
		file := filepath.Join(root, "certs", "manifests", mode+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), text.String()); diff != "" {
			t.Errorf("%s (-file +chart):\n%s", file, diff)
		}
	}
}

// plain is an object without what only Helm reads.
func plain(o *unstructured.Unstructured) *unstructured.Unstructured {
	o.SetAnnotations(nil)
	labels := o.GetLabels()
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	o.SetLabels(labels)
	return o
}
