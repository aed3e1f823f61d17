package chart

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

const servesPolicies = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"

// Helm switches from the webhook to policies and back, while pods and Services are created
// without pause. Each is injected, and once: all are the same. The old engine goes only by
// an upgrade that finds the new one at work.
func TestSwitchOfEngines(t *testing.T) {
	const name = "switch"
	h, err := helm.New(controlPlane.Kubeconfig, name, name)
	if err != nil {
		t.Fatal(err)
	}
	h.NoHooks, h.Change = true, beside(t, name)
	values := func(engine string) map[string]any {
		return map[string]any{
			"engine": engine, "webhook": map[string]any{"timeoutSeconds": patience},
			"certificates": map[string]any{"mode": "existing", "existing": map[string]any{"secretName": "certs", "caBundle": string(controlPlane.Authority.PEM)}},
		}
	}
	if err := h.Install(t.Context(), values("webhook")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Uninstall() })
	site := namespaceWith(t, name+"-site", map[string]string{annotations.Inject: "enabled"})
	if err := cluster.Injects(t.Context(), admin, site, patience*time.Second); err != nil {
		t.Fatal(err)
	}
	c := create(t, site)
	const both = "webhook policy"
	for i, step := range []struct {
		engine string
		ready  bool // the webhook's pods, for a kubelet
		want   string
	}{
		{"policy", false, both},
		{"policy", false, "policy"},
		{"webhook", false, both},
		{"webhook", false, both},
		{"policy", false, "policy"},
		{"webhook", true, both}, // at first it has no pods
		{"webhook", true, "webhook"},
		{"auto", true, both},
	} {
		if err := h.Upgrade(t.Context(), values(step.engine)); err != nil {
			t.Fatal(err)
		}
		if got := enginesOf(t, name); got != step.want {
			t.Errorf("step %d: after an upgrade to %s there is %q, not %q", i, step.engine, got, step.want)
		}
		if step.ready {
			readyWebhook(t, name)
		}
		c.more(t, 30)
	}
	c.end(t)
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
}

// beside runs a webhook with the chart's policy beside the cluster, and returns what
// changes the release's Service and registration, so that the API server finds it.
func beside(t *testing.T, release string) func(manifests string) string {
	t.Helper()
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := controlPlane.Authority.Issue(dir, "tls", pkix.Name{CommonName: release}, fmt.Sprintf("%s-spark-vitals-webhook.%s.svc", release, release)); err != nil {
		t.Fatal(err)
	}
	c, err := helm.Chart()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(c.Values["policy"].(string)), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	background(t, binary, "webhook", "--cert-dir="+dir, "--policy="+file, "--bind-address="+address, "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0", "--shutdown-delay=0s", "--log-level=error")
	host, port, _ := strings.Cut(address, ":")
	const service = "  - {name: webhook, port: 443, targetPort: webhook}\n"
	return func(manifests string) string {
		manifests = strings.ReplaceAll(manifests, service, service+"  type: ExternalName\n  externalName: "+host+"\n")
		return strings.ReplaceAll(manifests, ", port: 443}", ", port: "+port+"}")
	}
}

// enginesOf returns which engines a release has.
func enginesOf(t *testing.T, release string) string {
	t.Helper()
	api, name := admin.AdmissionregistrationV1(), release+"-spark-vitals"
	_, webhook := api.MutatingWebhookConfigurations().Get(t.Context(), name, metav1.GetOptions{})
	_, policy := api.MutatingAdmissionPolicyBindings().Get(t.Context(), name+"-inject-drivers", metav1.GetOptions{})
	var found []string
	for _, engine := range []struct {
		name string
		err  error
	}{{"webhook", webhook}, {"policy", policy}} {
		if engine.err == nil {
			found = append(found, engine.name)
		} else if !apierrors.IsNotFound(engine.err) {
			t.Fatal(engine.err)
		}
	}
	return strings.Join(found, " ")
}

// readyWebhook writes the status of a Deployment whose pods are ready.
func readyWebhook(t *testing.T, release string) {
	t.Helper()
	const status = `{"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}}`
	if _, err := admin.AppsV1().Deployments(release).Patch(t.Context(), release+"-spark-vitals-webhook", types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// creator dry-runs creations without pause.
type creator struct {
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu   sync.Mutex
	made map[string]map[string]int // what came of a captured object, and how often
	n    int
	err  error
}

func create(t *testing.T, namespace string) *creator {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &creator{stop: cancel, made: map[string]map[string]int{}}
	t.Cleanup(func() { cancel(); c.ended.Wait() })
	for _, name := range []string{"spark-4.1.4/driver", "spark-4.1.4/executor", "spark-4.1.4/driver-service"} {
		c.ended.Go(func() {
			for ctx.Err() == nil {
				text, err := createOnce(context.WithoutCancel(ctx), namespace, captured.Named(name))
				c.mu.Lock()
				if c.made[name] == nil {
					c.made[name] = map[string]int{}
				}
				c.made[name][text]++
				c.n++
				c.err = errors.Join(c.err, err)
				c.mu.Unlock()
			}
		})
	}
	return c
}

// createOnce returns what the API server makes of a captured object.
func createOnce(ctx context.Context, namespace string, review captured.Review) (string, error) {
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	var metadata metav1.ObjectMeta
	var spec any
	if review.Kind() == "Service" {
		service, err := cluster.CapturedService(review, namespace)
		if err != nil {
			return "", err
		}
		if service, err = admin.CoreV1().Services(namespace).Create(ctx, service, dryRun); err != nil {
			return "", err
		}
		metadata, spec = service.ObjectMeta, service.Spec
	} else {
		pod, err := cluster.CapturedPod(review, namespace)
		if err != nil {
			return "", err
		}
		if pod, err = admin.CoreV1().Pods(namespace).Create(ctx, pod, dryRun); err != nil {
			return "", err
		}
		metadata, spec = pod.ObjectMeta, podSpec(pod)
	}
	text, err := json.Marshal(map[string]any{"annotations": metadata.Annotations, "labels": metadata.Labels, "spec": spec})
	return string(text), err
}

// podSpec returns a pod's spec without the name that the API server gives to the volume of
// its token.
func podSpec(pod *corev1.Pod) corev1.PodSpec {
	for i, v := range pod.Spec.Volumes {
		if v.Projected != nil {
			pod.Spec.Volumes[i].Name = "token"
		}
	}
	for i := range pod.Spec.Containers {
		for j, m := range pod.Spec.Containers[i].VolumeMounts {
			if strings.HasPrefix(m.Name, "kube-api-access-") {
				pod.Spec.Containers[i].VolumeMounts[j].Name = "token"
			}
		}
	}
	return pod.Spec
}

// more waits for n more creations, and two seconds: an API server knows new and deleted
// policies after one.
func (c *creator) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.n
	}
	begin, want := time.Now(), count()+n
	eventually.True(t, "more creations", func() bool { return count() >= want && time.Since(begin) > 2*time.Second })
}

// end checks that each captured object always became the same, with a stamp.
func (c *creator) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.ended.Wait()
	if c.err != nil {
		t.Error(c.err)
	}
	for name, texts := range c.made {
		for text, n := range texts {
			if len(texts) > 1 {
				t.Errorf("%s became this %d times:\n%s", name, n, text)
			}
			if !strings.Contains(text, annotations.Injected) {
				t.Errorf("%s was not injected %d times", name, n)
			}
		}
	}
	t.Logf("%d creations", c.n)
}

// With policies, "helm test" and the recorder work as with the webhook: the one says that
// pods are injected, and by what, or why not. The other counts what was missed, and
// records. Uninstall leaves nothing.
func TestWithoutAWebhook(t *testing.T) {
	const name = "policies"
	team := namespaceWith(t, name+"-team", map[string]string{annotations.Inject: "enabled"})
	h := install(t, name, map[string]any{"engine": "policy"})
	if found := strings.Join(leftovers(t.Context(), t, name), " "); strings.Contains(found, "webhook") || strings.Contains(found, "certs") {
		t.Errorf("there is something of a webhook: %s", found)
	}
	if err := cluster.Injects(t.Context(), admin, team, patience*time.Second); err != nil {
		t.Fatal(err)
	}
	namespace(t, name+"-spark-vitals-check") // with an account, which a controller would create
	out, err := helmTest(t, name)
	if err != nil || !strings.Contains(out, "engine policy, injected: {") {
		t.Errorf("%v\n%s", err, out)
	}

	kubelet := cluster.Kubelet{Interface: admin}
	seen, err := kubelet.Driver(t.Context(), team, "seen")
	if err != nil {
		t.Fatal(err)
	}
	stop(t, name, team)
	if _, err := kubelet.Driver(t.Context(), team, "missed"); err != nil {
		t.Fatal(err)
	}
	if out, err := helmTest(t, name); err == nil || !strings.Contains(out, "the MutatingAdmissionPolicy "+name+"-spark-vitals-inject-drivers has no binding of its name") {
		t.Errorf("%v\n%s", err, out)
	}
	r, err := controlPlane.StartRecorder(t.Context(), os.Stderr, tokenKubeconfig(t, name, name+"-spark-vitals-recorder"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	metrics, err := r.Metrics(t.Context())
	if want := fmt.Sprintf("\nspark_vitals_missed_injections{namespace=%q} 1\n", team); err != nil || !strings.Contains(metrics, want) {
		t.Errorf("%v: the recorder does not count one missed pod:\n%s", err, metrics)
	}
	if _, err := kubelet.Die(t.Context(), seen, "OOMKilled", 137); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the record", func(ctx context.Context) error {
		pod, err := admin.CoreV1().Pods(team).Get(ctx, seen.Name, metav1.GetOptions{})
		if err == nil && pod.Annotations[annotations.OOM] == "" {
			err = fmt.Errorf("no record: %v", pod.Annotations)
		}
		return err
	})

	if err := h.Upgrade(t.Context(), map[string]any{"engine": "policy"}); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Injects(t.Context(), admin, team, patience*time.Second); err != nil {
		t.Errorf("after the emergency stop: %v", err)
	}
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t.Context(), t, name); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// stop stops a release as the notes say, and waits until nothing is injected.
func stop(t *testing.T, release, namespace string) {
	t.Helper()
	bindings := admin.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	if err := bindings.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=spark-vitals,app.kubernetes.io/instance=" + release}); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "nothing is injected", func(ctx context.Context) error {
		pod, err := cluster.AskOnce(ctx, admin, namespace)
		if err == nil && pod.Annotations[annotations.Injected] != "" {
			err = errors.New("it is")
		}
		return err
	})
}

// helmTest runs what "helm test" runs about the injection, with its account.
func helmTest(t *testing.T, release string) (string, error) {
	t.Helper()
	fullname := release + "-spark-vitals"
	rendered, err := helm.Render(map[string]any{"fullnameOverride": fullname, "engine": "policy"}, servesPolicies)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, o := range objects(t, strings.ReplaceAll(rendered.Hooks, "namespace: spark-vitals", "namespace: "+release)) {
		switch {
		case o.GetName() != fullname+"-check":
		case o.GetKind() == "Pod":
			args = containers(t, o)[0].Args
		default:
			apply(t, o)
		}
	}
	out, err := exec.CommandContext(t.Context(), binary, append(args, "--kubeconfig="+tokenKubeconfig(t, release, fullname+"-check"))...).CombinedOutput()
	return string(out), err
}

// The file for kubectl and the chart can be in one cluster: neither has an object of the
// other, and a pod is injected once, by one of them.
func TestBesideTheFile(t *testing.T) {
	team := namespaceWith(t, "file-team", map[string]string{annotations.Inject: "enabled"})
	h := install(t, "spark-vitals", map[string]any{"engine": "policy"})
	ask := func() string {
		text, err := createOnce(t.Context(), team, captured.Named("spark-4.1.4/driver"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	injectedBy := func(rule string) (made string) {
		eventually.True(t, rule, func() bool {
			made = ask()
			return strings.Contains(made, `{\"rule\":\"`+rule+`\"`)
		})
		return made
	}
	byChart := injectedBy("driver")
	file := objects(t, manifest(t, "deploy/policy-default.yaml"))
	for _, o := range file {
		apply(t, o)
	}
	t.Cleanup(func() {
		for _, o := range file {
			if err := resourceOf(t, o).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	both := map[string]int{}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); { // the API server knows the file after one
		both[ask()]++
	}
	if err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	byFile := injectedBy("default/driver")
	for text, n := range both {
		if text != byChart && text != byFile {
			t.Errorf("with both a pod became %d times neither what the chart nor what the file makes of it:\n%s", n, text)
		}
	}
}
