package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// Namespace of spark-vitals while stories run. A real installation has another.
const Namespace = "spark-vitals-e2e"

// patience with an installation: a slow machine needs minutes for it.
const patience = 15 * time.Minute

// Registry of the images that are only on the node.
const Registry = "localhost/e2e"

// Install puts spark-vitals into the cluster and waits until it serves.
func (l *Lab) Install(ctx context.Context) error {
	if err := l.alone(ctx); err != nil {
		return err
	}
	home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{ownLabel: "true"}}}
	if _, err := l.Client.CoreV1().Namespaces().Create(ctx, home, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	rules, err := fastPolicy()
	if err != nil {
		return err
	}
	err = l.Upgrade(ctx, string(rules))
	if err != nil && strings.Contains(err.Error(), "another operation") { // which an earlier run was in when it was killed
		release, failed := l.release()
		if err = failed; err == nil {
			err = errors.Join(release.Uninstall(), l.Upgrade(ctx, string(rules)))
		}
	}
	if err != nil {
		return fmt.Errorf("installing the chart: %w", err)
	}
	return l.serves(ctx)
}

// Upgrade the release to a policy, or install it.
func (l *Lab) Upgrade(ctx context.Context, policy string) error {
	id, err := l.ImportOwn(ctx, "development")
	if err != nil {
		return err
	}
	release, err := l.release()
	if err != nil {
		return err
	}
	values := map[string]any{
		"policy":     policy,
		"image":      map[string]any{"registry": Registry, "tag": "development", "pullPolicy": "Never"},
		"stallwatch": map[string]any{"enabled": true},
		// An image of the same name is another one after each change.
		"podAnnotations": map[string]any{"e2e/image": id[:16]},
	}
	maps.Copy(values, l.Values)
	return release.Apply(ctx, values)
}

// Rollback of the release by one revision.
func (l *Lab) Rollback() error {
	release, err := l.release()
	if err != nil {
		return err
	}
	return release.Rollback()
}

// ImportOwn puts the image of spark-vitals on the node, with a tag.
func (l *Lab) ImportOwn(ctx context.Context, tag string) (id string, err error) {
	built, err := l.ownImage(ctx, tag)
	if err != nil {
		return "", err
	}
	if l.own != nil {
		if err := l.Import(ctx, built); err != nil {
			return "", err
		}
	}
	return built.ID()
}

// release of the chart, as "helm install" makes it.
func (l *Lab) release() (*helm.Helm, error) {
	release, err := helm.New(l.Kubeconfig, Namespace, "spark-vitals")
	if err == nil {
		release.Timeout = patience
	}
	return release, err
}

// alone: beside a real installation the stories would try that one, and change
// what it does.
func (l *Lab) alone(ctx context.Context) error {
	registered, err := l.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("looking for an installation of spark-vitals: %w", err)
	}
	for _, c := range registered.Items {
		for _, webhook := range c.Webhooks {
			if service := webhook.ClientConfig.Service; strings.Contains(webhook.Name, "spark-vitals.io") && (service == nil || service.Namespace != Namespace) {
				return fmt.Errorf("the cluster has an installation of spark-vitals (MutatingWebhookConfiguration %s); the stories need one without", c.Name)
			}
		}
	}
	return nil
}

// serves waits until a Spark pod would be injected: the API server has the
// registration, and reaches the webhook through its Service.
func (l *Lab) serves(ctx context.Context) error {
	const name = Namespace + "-try"
	if err := l.NewNamespace(ctx, name, map[string]string{annotations.Inject: "enabled"}); err != nil {
		return err
	}
	defer l.RemoveNamespace(ctx, name)
	return cluster.Injects(ctx, l.Client, name, patience)
}

// FailedOpen is how often the API server has gone on without the webhook, because
// it was not answered in time.
func (l *Lab) FailedOpen(ctx context.Context) (int, error) {
	return (&cluster.ControlPlane{Client: l.Client}).FailedOpen(ctx)
}

// TestInstallation is "helm test", and what its pods say.
func (l *Lab) TestInstallation() (logs string, err error) {
	release, err := l.release()
	if err != nil {
		return "", err
	}
	return release.Test()
}

// Uninstall removes what Install has made.
func (l *Lab) Uninstall(ctx context.Context) error {
	release, err := l.release()
	if err != nil {
		return err
	}
	return errors.Join(release.Uninstall(), l.RemoveNamespace(ctx, Namespace))
}

func (l *Lab) ownImage(ctx context.Context, tag string) (image.Image, error) {
	binary, err := cluster.Build(ctx, "cmd/spark-vitals", "spark-vitals", l.Store.Progress)
	if err != nil {
		return image.Image{}, err
	}
	return l.Store.Static(Registry+"/spark-vitals:"+tag, binary)
}

// Kubectl runs kubectl on the cluster.
func (l *Lab) Kubectl(ctx context.Context, stdin []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, l.kubectl[0], slices.Concat(l.kubectl[1:], args)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %v: %w\n%s", args, err, out)
	}
	return nil
}
