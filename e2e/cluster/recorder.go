package cluster

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// RecorderAccount is the service account that [ControlPlane.AllowRecorder] makes.
const RecorderAccount = "spark-vitals-recorder"

// AllowRecorder makes a service account with the recorder's ClusterRoles of
// these names, and the right to see which namespaces opted in, and returns a kubeconfig for it. Server is where the recorder
// finds the API server, over TLS with a certificate of the cluster's authority;
// "" for where it is.
func (c *ControlPlane) AllowRecorder(ctx context.Context, namespace, server string, roles ...string) (kubeconfig string, err error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: RecorderAccount, Namespace: namespace}}
	if _, err := c.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("making the recorder's service account: %w", err)
	}
	if err := c.grant(ctx, namespace, roles); err != nil {
		return "", fmt.Errorf("granting the recorder its rights: %w", err)
	}
	as, err := c.As(ctx, namespace, RecorderAccount)
	if err != nil {
		return "", err
	}
	as.Host = cmp.Or(server, as.Host)
	return c.KubeconfigOf(as)
}

// grant the roles that the recorder ships with.
func (c *ControlPlane) grant(ctx context.Context, namespace string, roles []string) error {
	if err := c.Apply(ctx, "recorder/role.yaml"); err != nil {
		return err
	}
	for _, name := range append(roles, RecorderAccount+"-namespaces") {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name + "-" + namespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: RecorderAccount}},
		}
		if _, err := c.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := c.granted(ctx, "system:serviceaccount:"+namespace+":"+RecorderAccount, name); err != nil {
			return fmt.Errorf("waiting for %s: %w", name, err)
		}
	}
	return nil
}

// granted waits until the API server knows that a user has a ClusterRole, which
// may be a little after it was bound.
func (c *ControlPlane) granted(ctx context.Context, user, role string) error {
	bound, err := c.Client.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
	if err != nil {
		return err
	}
	rule := bound.Rules[0]
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: rule.Verbs[0], Group: rule.APIGroups[0], Resource: rule.Resources[0]},
	}}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		answer, err := c.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
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

// Start the recorder again, after it was ended.
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

// Metrics as the recorder serves them.
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

// Pid of the recorder's process.
func (r *Recorder) Pid() int { return r.process.cmd.Process.Pid }

// Memory that its process has used at most, in bytes.
func (r *Recorder) Memory() (bytes int64) { return memory(r.Pid()) }

// Log is the file that the recorder logs to.
func (r *Recorder) Log() string { return r.process.log }

// Stop ends the recorder as a kubelet would.
func (r *Recorder) Stop() { r.process.stop(30 * time.Second) }

// Kill ends the recorder at once, as the kernel would.
func (r *Recorder) Kill() { r.process.kill() }

// RestartAPIServer ends the API server at once and starts it again. Watches
// break, and the history that they could go on from is gone.
func (c *ControlPlane) RestartAPIServer(ctx context.Context) error {
	old := c.last()
	old.kill()
	c.processes = c.processes[:len(c.processes)-1]
	if err := c.run(old.name, old.cmd.Path, old.cmd.Args[1:]...); err != nil {
		return err
	}
	return c.waitReady(ctx)
}
