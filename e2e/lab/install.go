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

// Namespace is the namespace of spark-vitals while stories run. A real installation has
// another.
const Namespace = "spark-vitals-e2e"

// patience is how long an installation may take on a slow machine.
const patience = 15 * time.Minute

// Registry is the registry of images that exist only on the node.
const Registry = "localhost/e2e"

// Install installs spark-vitals and waits until it serves.
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

// Upgrade upgrades the release to a policy, or installs it.
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
		"sparkJobs":  map[string]any{"enabled": true},
		"recorder":   map[string]any{"readConfigMaps": true},
		// An image of the same name is another one after each change.
		"podAnnotations": map[string]any{"e2e/image": id[:16]},
	}
	maps.Copy(values, l.Values)
	return release.Apply(ctx, values)
}

// Rollback rolls the release back by one revision.
func (l *Lab) Rollback() error {
	release, err := l.release()
	if err != nil {
		return err
	}
	return release.Rollback()
}

// ImportOwn imports the image of spark-vitals to the node, with a tag.
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

// release returns Helm for the release of the chart.
func (l *Lab) release() (*helm.Helm, error) {
	release, err := helm.New(l.Kubeconfig, Namespace, "spark-vitals")
	if err == nil {
		release.Timeout = patience
	}
	return release, err
}

// alone fails if there is a real installation: the stories would test that one, and
// change what it does.
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

// serves waits until a Spark pod would be injected: the API server has the registration
// and reaches the webhook through its Service.
func (l *Lab) serves(ctx context.Context) error {
	const name = Namespace + "-try"
	if err := l.NewNamespace(ctx, name, map[string]string{annotations.Inject: "enabled"}); err != nil {
		return err
	}
	defer l.RemoveNamespace(ctx, name)
	return cluster.Injects(ctx, l.Client, name, patience)
}

// FailedOpen returns how often the API server continued without the webhook because it
// did not answer in time.
func (l *Lab) FailedOpen(ctx context.Context) (int, error) {
	return (&cluster.ControlPlane{Client: l.Client}).FailedOpen(ctx)
}

// TestInstallation runs "helm test" and returns the logs of its pods.
func (l *Lab) TestInstallation() (logs string, err error) {
	release, err := l.release()
	if err != nil {
		return "", err
	}
	return release.Test()
}

// Uninstall removes what Install made.
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
