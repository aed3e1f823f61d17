// Package watch asks for the logs of Spark's running drivers, and reports those
// that are silent for too long: on the driver, as an Event and as a metric. It
// ends nothing.
//
// Which drivers, and for how long they may be silent, the webhook has stamped on
// them. What is known of a log is kept in memory: a new leader asks once for each
// driver that runs for longer than it may be silent, and then knows as much.
//
// A driver chooses what is asked of it, so it can choose no one else: logs are
// read by its own name, and the UI is asked on its own address alone.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
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

	"github.com/spark-vitals/spark-vitals/spark"
)

// Config of a stall watch.
type Config struct {
	API *rest.Config
	// Namespaces whose drivers are watched; none means all.
	Namespaces []string
	// Namespace of the stall watch itself: of its lease.
	Namespace string
	// CallsPerSecond of the API server, at most, for all that is asked and told.
	CallsPerSecond float32
	// Addresses to listen on, "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

// name of the lease, and of the source of Events.
const name = "spark-vitals-stallwatch"

// Looks at once. Each waits most of its time, for a kubelet or a UI.
const workers = 8

// Run watches until the context ends.
func Run(ctx context.Context, c Config) error {
	world, err := newCluster(c)
	if err != nil {
		return fmt.Errorf("starting the stall watch: %w", err)
	}
	l := newLoop(world, c.Log)
	drivers := cache.ByObject{
		Label:     labels.SelectorFromSet(labels.Set{spark.RoleLabel: string(spark.Driver)}),
		Field:     fields.OneTermEqualSelector("status.phase", string(corev1.PodRunning)),
		Transform: strip,
	}
	if len(c.Namespaces) > 0 {
		drivers.Namespaces = map[string]cache.Config{}
		for _, namespace := range c.Namespaces {
			drivers.Namespaces[namespace] = cache.Config{}
		}
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
		Cache:                         cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Pod{}: drivers}},
	})
	if err != nil {
		return fmt.Errorf("starting the stall watch: %w", err)
	}
	if err := ctrlmetrics.Registry.Register(l.metrics); err != nil {
		return err
	}
	ctl, err := controller.NewTyped(name, mgr, controller.TypedOptions[key]{Reconciler: l, MaxConcurrentReconciles: workers, ReconciliationTimeout: time.Minute})
	if err != nil {
		return err
	}
	if err := ctl.Watch(source.TypedKind(mgr.GetCache(), &corev1.Pod{}, l.watch())); err != nil {
		return err
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}
