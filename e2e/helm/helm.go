// Package helm installs the chart with Helm's own library.
package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/postrenderer"
	releaser "helm.sh/helm/v4/pkg/release"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// Chart reads the project's chart.
func Chart() (*chart.Chart, error) {
	root, err := cluster.Root()
	if err != nil {
		return nil, err
	}
	return loader.LoadDir(filepath.Join(root, "charts", "spark-vitals"))
}

// Helm works on a cluster, in the namespace of one release.
type Helm struct {
	// NoHooks leaves hooks out: where there are no nodes they would wait for ever.
	NoHooks bool
	// Timeout of each action; five minutes by default.
	Timeout time.Duration
	// Output takes the logs of hooks.
	Output io.Writer
	// Change changes what Helm installs, as --post-renderer does, if it is not nil.
	Change func(manifests string) string

	release, namespace string
	config             *action.Configuration
	chart              *chart.Chart
}

// New returns Helm for one release of the project's chart.
func New(kubeconfig, namespace, name string) (*Helm, error) {
	c, err := Chart()
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	settings := cli.New()
	settings.KubeConfig = kubeconfig
	settings.SetNamespace(namespace)
	h := &Helm{Timeout: 5 * time.Minute, Output: io.Discard, release: name, namespace: namespace, chart: c, config: action.NewConfiguration()}
	h.config.SetHookOutputFunc(func(_, _, _ string) io.Writer { return h.Output })
	return h, h.config.Init(settings.RESTClientGetter(), namespace, "secret")
}

func (h *Helm) wait() kube.WaitStrategy {
	if h.NoHooks {
		return kube.HookOnlyStrategy
	}
	return kube.StatusWatcherStrategy
}

// changer is a post-renderer that is a function.
type changer func(manifests string) string

// Run implements postrenderer.PostRenderer.
func (c changer) Run(rendered *bytes.Buffer) (*bytes.Buffer, error) {
	return bytes.NewBufferString(c(rendered.String())), nil
}

func (h *Helm) postRenderer() postrenderer.PostRenderer {
	if h.Change == nil {
		return nil
	}
	return changer(h.Change)
}

// Install is "helm install --wait --create-namespace".
func (h *Helm) Install(ctx context.Context, values map[string]any) error {
	install := action.NewInstall(h.config)
	install.ReleaseName, install.Namespace, install.CreateNamespace = h.release, h.namespace, true
	install.DisableHooks, install.WaitStrategy, install.Timeout, install.PostRenderer = h.NoHooks, h.wait(), h.Timeout, h.postRenderer()
	_, err := install.RunWithContext(ctx, h.chart, values)
	return err
}

// Upgrade is "helm upgrade --wait".
func (h *Helm) Upgrade(ctx context.Context, values map[string]any) error {
	upgrade := action.NewUpgrade(h.config)
	upgrade.Namespace, upgrade.DisableHooks, upgrade.WaitStrategy, upgrade.Timeout = h.namespace, h.NoHooks, h.wait(), h.Timeout
	upgrade.PostRenderer = h.postRenderer()
	_, err := upgrade.RunWithContext(ctx, h.release, h.chart, values)
	return err
}

// Apply is "helm upgrade --install --wait --create-namespace".
func (h *Helm) Apply(ctx context.Context, values map[string]any) error {
	_, err := action.NewHistory(h.config).Run(h.release)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return h.Install(ctx, values)
	}
	if err != nil {
		return err
	}
	return h.Upgrade(ctx, values)
}

// Rollback is "helm rollback --wait" to the revision before.
func (h *Helm) Rollback() error {
	rollback := action.NewRollback(h.config)
	rollback.DisableHooks, rollback.WaitStrategy, rollback.Timeout = h.NoHooks, h.wait(), h.Timeout
	return rollback.Run(h.release)
}

// Uninstall is "helm uninstall --wait".
func (h *Helm) Uninstall() error {
	uninstall := action.NewUninstall(h.config)
	uninstall.DisableHooks, uninstall.WaitStrategy, uninstall.Timeout = h.NoHooks, h.wait(), h.Timeout
	_, err := uninstall.Run(h.release)
	return err
}

// Test is "helm test --logs". It returns the logs.
func (h *Helm) Test() (logs string, err error) {
	test := action.NewReleaseTesting(h.config)
	test.Namespace, test.Timeout = h.namespace, h.Timeout
	found, shutdown, err := test.Run(h.release)
	var out bytes.Buffer
	if r, ok := found.(*release.Release); ok {
		_ = test.GetPodLogs(&out, r) // of pods that were never made there are none
	}
	return out.String(), errors.Join(err, shutdown())
}

// Rendered is what a chart renders: the release's objects as YAML documents, those of
// hooks, and the notes for the user.
type Rendered struct{ Objects, Hooks, Notes string }

// Render is "helm template" with values, for the release spark-vitals in a namespace
// of that name. --api-versions are what the cluster also serves.
func Render(values map[string]any, apiVersions ...string) (Rendered, error) {
	return render("spark-vitals", values, apiVersions...)
}

func render(name string, values map[string]any, apiVersions ...string) (Rendered, error) {
	c, err := Chart()
	if err != nil {
		return Rendered{}, err
	}
	install := action.NewInstall(action.NewConfiguration())
	install.DryRunStrategy, install.ReleaseName, install.Namespace = action.DryRunClient, name, name
	install.APIVersions = apiVersions
	install.KubeVersion = &common.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	var found releaser.Releaser
	if found, err = install.Run(c, values); err != nil {
		return Rendered{}, err
	}
	r := found.(*release.Release)
	var hooks bytes.Buffer
	for _, hook := range r.Hooks {
		fmt.Fprintf(&hooks, "---\n# Source: %s\n%s\n", hook.Path, hook.Manifest)
	}
	return Rendered{Objects: r.Manifest, Hooks: hooks.String(), Notes: r.Info.Notes}, nil
}
