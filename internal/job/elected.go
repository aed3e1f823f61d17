package job

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/spark-vitals/spark-vitals/internal/paged"
)

// Key identifies a pod. Another pod may get its name, but not its UID.
type Key struct {
	types.NamespacedName
	types.UID
}

// KeyOf returns the key of a pod.
func KeyOf(pod *corev1.Pod) Key { return Key{client.ObjectKeyFromObject(pod), pod.UID} }

// Elected is a job that watches pods. One replica at a time works. It uses
// controller-runtime's manager: leader election, a cache, a queue and workers.
type Elected struct {
	// Name is the name of the job and of its lease: "spark-vitals-" and the job.
	Name string
	API  *rest.Config
	// Namespace is the job's own, for its lease.
	Namespace string
	// Namespaces are the namespaces of the pods that it sees; none means all. Pods
	// selects among them.
	Namespaces []string
	Pods       cache.ByObject
	// Keep returns what is kept of a pod.
	Keep toolscache.TransformFunc
	// Standby runs in every replica, also in the leader, until the context ends. It gets
	// the informer of pods. It may be nil.
	Standby func(ctx context.Context, pods cache.Informer) error
	// Workers is how many pods are handled at a time. Each may take Timeout, unless that
	// is 0.
	Workers int
	Timeout time.Duration
	// The addresses to listen on are "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Metrics                                    []prometheus.Collector
	Log                                        *slog.Logger
}

// Run runs the job until the context ends. The loop gets the pods from its watch and
// from other sources.
func (j Elected) Run(ctx context.Context, loop reconcile.TypedReconciler[Key], watch handler.TypedEventHandler[*corev1.Pod, Key], others ...source.TypedSource[Key]) error {
	if len(j.Namespaces) > 0 {
		j.Pods.Namespaces = map[string]cache.Config{}
		for _, namespace := range j.Namespaces {
			j.Pods.Namespaces[namespace] = cache.Config{}
		}
	}
	mgr, err := manager.New(paged.Bound(j.API), manager.Options{
		Scheme:                        clientgoscheme.Scheme,
		Logger:                        logr.FromSlogHandler(j.Log.Handler()),
		Metrics:                       metricsserver.Options{BindAddress: j.MetricsBindAddress},
		HealthProbeBindAddress:        j.HealthProbeBindAddress,
		LeaderElection:                true,
		LeaderElectionID:              j.Name,
		LeaderElectionNamespace:       j.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Cache:                         cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Pod{}: j.Pods}, NewInformer: j.informer},
	})
	if err != nil {
		return fmt.Errorf("starting %s: %w", j.Name, err)
	}
	for _, m := range j.Metrics {
		if err := ctrlmetrics.Registry.Register(m); err != nil {
			return err
		}
	}
	ctl, err := controller.NewTyped(j.Name, mgr, controller.TypedOptions[Key]{
		Reconciler: loop, MaxConcurrentReconciles: j.Workers, ReconciliationTimeout: j.Timeout,
		UsePriorityQueue: new(false), // it delays the pods of the first list as long as others change
	})
	if err != nil {
		return err
	}
	for _, s := range append(others, source.TypedKind(mgr.GetCache(), &corev1.Pod{}, watch)) {
		if err := ctl.Watch(s); err != nil {
			return err
		}
	}
	if j.Standby != nil {
		if err := mgr.Add(standby{mgr.GetCache(), j.Standby}); err != nil {
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

// standby is a manager.Runnable that every replica runs.
type standby struct {
	cache cache.Cache
	run   func(context.Context, cache.Informer) error
}

// NeedLeaderElection returns false.
func (standby) NeedLeaderElection() bool { return false }

// Start runs it with the informer of pods, which the cache runs.
func (s standby) Start(ctx context.Context) error {
	informer, err := s.cache.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	return s.run(ctx, informer)
}

// informer returns the informer of pods, the only objects that are watched.
func (j Elected) informer(of toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	return toolscache.NewSharedIndexInformer(paged.ListWatch(of, j.Keep), object, resync, indexers)
}
