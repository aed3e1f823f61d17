package releaser

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Config of a releaser.
type Config struct {
	API *rest.Config
	// Gateway whose engines are released, made with a reader that is not cached.
	Gateway func(client.Reader) gateway.Gateway
	// Namespaces where its engines run. Pods elsewhere are not seen.
	Namespaces []string
	// Namespace of the releaser itself: of its lease and its journal.
	Namespace string
	// Addresses to listen on, "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

// name of the lease and of the journal.
const name = "spark-vitals-releaser"

// Releases at once. Each waits for the gateway most of its time, and one that
// hangs must keep no other waiting.
const workers = 32

// Run releases until the context ends.
func Run(ctx context.Context, c Config) error {
	pods := map[string]cache.Config{}
	for _, namespace := range c.Namespaces {
		pods[namespace] = cache.Config{}
	}
	direct, err := client.New(c.API, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		return fmt.Errorf("starting the releaser: %w", err)
	}
	if slices.Contains(c.Namespaces, c.Namespace) {
		return fmt.Errorf("the releaser runs in %s, where engines run too: whoever submits them there could write its journal; give it a namespace of its own", c.Namespace)
	}
	l := newLoop(c, direct)
	engines, err := selector(l.gateway.Label())
	if err != nil {
		return err
	}
	mgr, err := manager.New(c.API, manager.Options{
		Scheme:                        clientgoscheme.Scheme,
		Logger:                        logr.FromSlogHandler(c.Log.Handler()),
		Metrics:                       metricsserver.Options{BindAddress: c.MetricsBindAddress},
		HealthProbeBindAddress:        c.HealthProbeBindAddress,
		LeaderElection:                true,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       c.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Cache: cache.Options{
			ByObject:         map[client.Object]cache.ByObject{&corev1.Pod{}: {Label: engines, Namespaces: pods}},
			DefaultTransform: cache.TransformStripManagedFields(),
		},
	})
	if err != nil {
		return fmt.Errorf("starting the releaser: %w", err)
	}
	ctrlmetrics.Registry.MustRegister(l.metrics.all()...)
	ctl, err := controller.NewTyped(name, mgr, controller.TypedOptions[key]{Reconciler: l, MaxConcurrentReconciles: workers})
	if err != nil {
		return err
	}
	for _, s := range []source.TypedSource[key]{source.TypedFunc[key](l.resume), source.TypedKind(mgr.GetCache(), &corev1.Pod{}, l.watch())} {
		if err := ctl.Watch(s); err != nil {
			return err
		}
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// selector of drivers that a gateway launched.
func selector(label string) (labels.Selector, error) {
	s := labels.SelectorFromSet(labels.Set{spark.RoleLabel: string(spark.Driver)})
	for _, key := range []string{label, spark.ApplicationLabel} {
		exists, err := labels.NewRequirement(key, selection.Exists, nil)
		if err != nil {
			return nil, fmt.Errorf("the gateway's label: %w", err)
		}
		s = s.Add(*exists)
	}
	return s, nil
}

// Pauses between two tries.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	refusedPause = 10 * time.Minute
	expired      = 10 * time.Minute // by when a dead engine's registration has
	secondLook   = time.Second      // for a registration that was not there
	filesPause   = 10 * time.Second // between two looks at the configuration
)
