package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/certs"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// patience is the webhook's timeout in seconds, the longest that the API server allows.
// On a slow machine a call is then late, and not missed.
const patience = 30

var renewals = flag.Int("renewals", 4, "how many renewals of a certificate to watch")

// trust runs the command of the chart's hook.
func trust(t *testing.T, namespace, configuration string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // as the hook
	defer cancel()
	if err := certs.Trust(ctx, admin, namespace, configuration+"-ca", configuration, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// The keeper and the hook have exactly the rights that the chart gives them. A webhook
// is called while its certificate is renewed again and again: each call is answered,
// and each new connection trusts the certificate.
func TestRenewalsInterruptNothing(t *testing.T) {
	const name = "certs"
	install(t, name, map[string]any{"guards": map[string]any{"enabled": false}, "recorder": map[string]any{"enabled": false}, "webhook": map[string]any{"validation": "deny", "timeoutSeconds": patience}})
	applyHooks(t, name)
	hook := withToken(t, name, "certs-spark-vitals-certs-trust")
	eventually.Succeeds(t, "the hook's rights, which its Job would try again for", func(ctx context.Context) error { return reads(ctx, hook, "certs-spark-vitals") })
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	const secret, configMap, configuration = name + "/certs-spark-vitals-certs", name + "/certs-spark-vitals-ca", "certs-spark-vitals"
	background(t, binary, "certs", "keep", "--kubeconfig="+tokenKubeconfig(t, name, "certs-spark-vitals-certs"), "--secret="+secret, "--configmap="+configMap,
		"--host="+configuration+"-webhook."+name+".svc", "--duration=60s", "--renew-before=50s", "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0")
	out, err := exec.CommandContext(t.Context(), binary, "certs", "trust", "--kubeconfig="+tokenKubeconfig(t, name, "certs-spark-vitals-certs-trust"),
		"--configmap="+configMap, "--webhook-configuration="+configuration).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := call(t, name, configuration)
	c.over(t, *renewals, 1)
	if len(c.bundles) != 1 {
		t.Errorf("%d CAs were trusted: the CA changed", len(c.bundles))
	}
	c.end(t)
	rightsOfTheKeeper(t, name)
	if _, err := hook.CoreV1().Secrets(name).Get(t.Context(), configuration+"-certs", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the hook may read the Secret with the keys: %v", err)
	}
}

// rightsOfTheKeeper checks that the keeper has rights on its own Secret, and that
// nobody keeps a right on webhook configurations.
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

// caller creates pods that the webhook is called for, and makes new connections to it,
// while its certificate is renewed.
type caller struct {
	configuration, address, host string
	pod                          *corev1.Pod
	pods, failedOpen             int
	certificates                 map[string]*x509.Certificate // that it saw, by serial number
	bundles                      map[string]bool              // that the API server trusted
}

// call starts calls to a webhook with the certificate of the release's Secret, once it
// is registered.
func call(t *testing.T, namespace, configuration string) *caller {
	t.Helper()
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	mount := &volume{t: t, namespace: namespace, secret: configuration + "-certs", dir: t.TempDir()}
	mount.update(t.Context())
	var following sync.WaitGroup
	following.Go(func() { mount.follow(t.Context()) })
	t.Cleanup(following.Wait) // before the folder goes
	service := configuration + "-webhook"
	c := &caller{
		configuration: configuration, address: serve(t, binary, mount.dir), host: service + "." + namespace + ".svc",
		certificates: map[string]*x509.Certificate{}, bundles: map[string]bool{},
	}
	redirect(t, namespace, service, configuration, c.address)
	site := namespaceWith(t, namespace+"-site", map[string]string{annotations.Inject: "enabled"})
	if c.pod, err = cluster.CapturedPod(captured.Named("spark-4.1.4/driver"), site); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the registrations", func(ctx context.Context) error { // the mutating and the validating one
		if c.failedOpen, err = controlPlane.FailedOpen(ctx); err != nil {
			return err
		}
		return errors.Join(c.create(ctx), c.missed(ctx))
	})
	return c
}

// missed returns an error if the API server counts failed calls.
func (c *caller) missed(ctx context.Context) error {
	failed, err := controlPlane.FailedOpen(ctx)
	if err == nil && failed != c.failedOpen {
		err = fmt.Errorf("the API server counts %d calls that failed", failed-c.failedOpen)
	}
	return err
}

// create dry-runs the creation of a pod.
func (c *caller) create(ctx context.Context) error {
	made, err := admin.CoreV1().Pods(c.pod.Namespace).Create(ctx, c.pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil && made.Annotations[annotations.Injected] == "" {
		err = errors.New("nothing was injected")
	}
	c.pods++
	return err
}

// over creates pods until there have been so many more renewals, and so many CAs. Each
// pod is injected.
func (c *caller) over(t *testing.T, renewals, authorities int) {
	t.Helper()
	c.look(t)
	for wanted, end := len(c.certificates)+renewals, time.Now().Add(5*time.Minute); len(c.certificates) < wanted || len(c.bundles) < authorities; c.look(t) {
		if err := c.create(t.Context()); err != nil {
			t.Fatalf("the pod %d, after %d certificates: %v", c.pods, len(c.certificates), err)
		}
		if time.Now().After(end) {
			t.Fatalf("only %d certificates of %d and %d CAs of %d were seen in 5 minutes", len(c.certificates), wanted, len(c.bundles), authorities)
		}
	}
}

// look connects and records the certificate and the trust.
func (c *caller) look(t *testing.T) {
	t.Helper()
	for _, bundle := range bundles(t, c.configuration) {
		c.bundles[string(bundle)] = true
	}
	connection, err := tls.Dial("tcp", c.address, &tls.Config{InsecureSkipVerify: true}) // end verifies
	if err != nil {
		t.Fatalf("after %d pods and %d certificates: %v", c.pods, len(c.certificates), err)
	}
	defer connection.Close()
	certificate := connection.ConnectionState().PeerCertificates[0]
	c.certificates[certificate.SerialNumber.String()] = certificate
}

// end returns what was seen. The new content of a Secret reaches a webhook a minute or
// more after the new CA reached the webhook configuration, so each CA must fit each
// certificate.
func (c *caller) end(t *testing.T) {
	t.Helper()
	for bundle := range c.bundles {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(bundle))
		for serial, certificate := range c.certificates {
			if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.host, CurrentTime: certificate.NotBefore.Add(time.Second)}); err != nil {
				t.Errorf("certificate %s: %v; by the CA\n%s", serial, err, bundle)
			}
		}
	}
	if err := c.missed(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d pods over %d certificates and %d CAs, none missed", c.pods, len(c.certificates), len(c.bundles))
}

// volume is a Secret as a kubelet mounts it: a link to a folder, which is replaced.
type volume struct {
	t                      *testing.T
	namespace, secret, dir string
	seen                   string
}

func (v *volume) update(ctx context.Context) {
	secret, err := admin.CoreV1().Secrets(v.namespace).Get(ctx, v.secret, metav1.GetOptions{})
	if err != nil || secret.ResourceVersion == v.seen {
		return
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
			t.Logf("%s %s ended (%v):\n%s", filepath.Base(binary), args[0], err, log.String())
		}
	})
}

// serve runs a webhook with the certificate of a folder, and returns its address.
func serve(t *testing.T, binary, dir string) string {
	t.Helper()
	address := freeAddress(t)
	background(t, binary, "webhook", "--cert-dir="+dir, "--bind-address="+address, "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0", "--shutdown-delay=0s")
	return address
}

// redirect redirects a release's Service to a webhook beside the cluster. Without nodes
// the Service leads nowhere. Its name and the trust stay.
func redirect(t *testing.T, namespace, service, configuration, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	outside := fmt.Sprintf(`{"spec": {"type": "ExternalName", "externalName": %q, "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null}}`, host)
	if _, err := admin.CoreV1().Services(namespace).Patch(t.Context(), service, types.MergePatchType, []byte(outside), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	registrations := admin.AdmissionregistrationV1()
	m, err := registrations.MutatingWebhookConfigurations().Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ports := func(webhooks int) []byte {
		var patch []string
		for i := range webhooks {
			patch = append(patch, fmt.Sprintf(`{"op": "replace", "path": "/webhooks/%d/clientConfig/service/port", "value": %s}`, i, port))
		}
		return []byte("[" + strings.Join(patch, ",") + "]")
	}
	if _, err := registrations.MutatingWebhookConfigurations().Patch(t.Context(), configuration, types.JSONPatchType, ports(len(m.Webhooks)), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := registrations.ValidatingWebhookConfigurations().Patch(t.Context(), configuration, types.JSONPatchType, ports(1), metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) { // it is there with validation: deny
		t.Fatal(err)
	}
}

// applyHooks creates the hooks' accounts and roles, which Helm creates only for the
// duration of an installation.
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
