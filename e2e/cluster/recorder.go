package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Allow creates the objects of a manifest that grants one service account its rights,
// waits until the API server grants them, and returns a kubeconfig of the account.
// Server is where the account finds the API server, over TLS with a certificate of the
// cluster's authority; "" for where it is.
func (c *ControlPlane) Allow(ctx context.Context, manifest, server string) (kubeconfig string, err error) {
	objects, err := decode(manifest)
	if err != nil {
		return "", err
	}
	if err := c.create(ctx, objects); err != nil {
		return "", err
	}
	i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == rbacv1.ServiceAccountKind })
	if i < 0 {
		return "", errors.New("the manifest has no service account")
	}
	as, err := c.As(ctx, objects[i].GetNamespace(), objects[i].GetName())
	if err != nil {
		return "", err
	}
	for _, o := range objects {
		if err := granted(ctx, as, o); err != nil {
			return "", fmt.Errorf("waiting for the rights of %s: %w", o.GetName(), err)
		}
	}
	as.Host = cmp.Or(server, as.Host)
	return c.KubeconfigOf(as)
}

// granted waits until the API server grants an account the first right of a role,
// which may be a little after the role was bound. Other objects need no wait.
func granted(ctx context.Context, account *rest.Config, o *unstructured.Unstructured) error {
	if o.GetKind() != "Role" && o.GetKind() != "ClusterRole" {
		return nil
	}
	var role rbacv1.Role // has the fields of a ClusterRole that matter here
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(account)
	if err != nil {
		return err
	}
	rule := role.Rules[0] // of at most one name
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: o.GetNamespace(), Verb: rule.Verbs[0], Group: rule.APIGroups[0], Resource: rule.Resources[0], Name: strings.Join(rule.ResourceNames, "")},
	}}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed, err
	})
}

// Recorder is a running "spark-vitals recorder".
type Recorder struct {
	MetricsURL, healthURL string
	start                 func() (*process, error)
	process               *process
}

// StartRecorder builds spark-vitals and runs its recorder beside the cluster,
// until it has listed all pods.
func (c *ControlPlane) StartRecorder(ctx context.Context, progress io.Writer, kubeconfig string, flags ...string) (*Recorder, error) {
	binary, err := buildOnce(progress)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	r := &Recorder{MetricsURL: "http://" + address(0) + "/metrics", healthURL: "http://" + address(1) + "/readyz"}
	args := append([]string{"recorder", "--kubeconfig=" + kubeconfig, "--metrics-bind-address=" + address(0), "--health-probe-bind-address=" + address(1)}, flags...)
	r.start = func() (*process, error) {
		return start(c.Dir, fmt.Sprintf("recorder-%d", ports[0]), false, binary, args...)
	}
	return r, r.Start(ctx)
}

// Start starts the recorder again after it ended.
func (r *Recorder) Start(ctx context.Context) (err error) {
	if r.process, err = r.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.process.until(ctx, r.ready); err != nil {
		r.Kill()
		return err
	}
	return nil
}

func (r *Recorder) ready(ctx context.Context) error {
	_, err := get(ctx, r.healthURL)
	return err
}

// Metrics returns the metrics that the recorder serves.
func (r *Recorder) Metrics(ctx context.Context) (string, error) { return get(ctx, r.MetricsURL) }

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}

// Pid returns the recorder's process id.
func (r *Recorder) Pid() int { return r.process.cmd.Process.Pid }

// Memory returns the most memory that the process has used, in bytes.
func (r *Recorder) Memory() (bytes int64) { return memory(r.Pid()) }

// Log returns the recorder's log file.
func (r *Recorder) Log() string { return r.process.log }

// Stop ends the recorder as a kubelet would.
func (r *Recorder) Stop() { r.process.stop(30 * time.Second) }

// Kill ends the recorder at once, as the kernel would.
func (r *Recorder) Kill() { r.process.kill() }

// RestartAPIServer kills the API server and starts it again. Watches break, and the
// watch history is gone.
func (c *ControlPlane) RestartAPIServer(ctx context.Context) error {
	old := c.last()
	old.kill()
	c.processes = c.processes[:len(c.processes)-1]
	if err := c.run(old.name, old.cmd.Path, old.cmd.Args[1:]...); err != nil {
		return err
	}
	return c.waitReady(ctx)
}
