// Package watch knows the plans of all drivers: what their later executors are to get,
// because earlier ones died of memory. It also knows what the next driver of a SparkJob is
// to get. The webhook asks it about each pod that is created.
//
// It watches the metadata of drivers' pods and of SparkJobs, and keeps little of it. What
// it does not know changes nothing: the pod is made as Spark asked.
package watch

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Drivers are the plans of all drivers of a cluster, and what the next ones are to get.
type Drivers struct {
	informer cache.SharedIndexInformer
	jobs     *jobs       // nil if SparkJobs are not watched
	failing  atomic.Bool // the last call to the API server failed
	now      func() time.Time
}

// longest is how far ahead a plan may end. The recorder writes less.
const longest = 7 * time.Hour

// New returns the plans of a cluster. They are known once Run has listed the drivers. It
// watches SparkJobs too if it is asked to.
func New(api *rest.Config, sparkJobs bool, log *slog.Logger, registry prometheus.Registerer) (*Drivers, error) {
	client, err := metadata.NewForConfig(paged.Bound(api))
	if err != nil {
		return nil, err
	}
	d := newDrivers(client, log, registry)
	if !sparkJobs {
		return d, nil
	}
	return d, d.watchJobs(client, log, registry)
}

// watchJobs makes known what the next drivers of jobs are to get.
func (d *Drivers) watchJobs(client metadata.Interface, log *slog.Logger, registry prometheus.Registerer) error {
	d.jobs = newJobs(client, log, registry)
	_, err := d.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
		if driver, ok := object.(*metav1.PartialObjectMetadata); ok {
			d.jobs.came(driver.Namespace + "/" + driver.Name)
		}
	}})
	return err
}

func newDrivers(client metadata.Interface, log *slog.Logger, registry prometheus.Registerer) *Drivers {
	d := &Drivers{now: time.Now}
	errs := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_remedy_watch_errors_total", Help: "Failed calls to list or watch drivers. Until one succeeds, no executor is remedied.",
	})
	// A reflector reports not all failures, and no success.
	called := func(err error) {
		if d.failing.Store(err != nil); err != nil {
			errs.Inc()
			log.Warn("drivers cannot be watched, so no executor is remedied", "error", err)
		}
	}
	all := listWatch(client.Resource(corev1.SchemeGroupVersion.WithResource("pods")), metav1.ListOptions{LabelSelector: drivers, FieldSelector: alive}, called)
	d.informer = cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(paged.ListWatch(all, strip), client), &metav1.PartialObjectMetadata{}, 0, cache.Indexers{byUID: uidOf})
	registry.MustRegister(errs, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_remedy_drivers", Help: "Drivers that are watched for a remedy. It is -1 while they are not known.",
	}, d.count))
	return d
}

// listWatch lists and watches what the selectors of options select. It reports each call's
// success or failure.
func listWatch(resource metadata.ResourceInterface, selectors metav1.ListOptions, called func(error)) *cache.ListWatch {
	narrow := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector, options.FieldSelector = selectors.LabelSelector, selectors.FieldSelector
		return options
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := resource.List(ctx, narrow(options))
			called(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := resource.Watch(ctx, narrow(options))
			called(err)
			return w, err
		},
	}
}

// drivers and alive select the pods that are watched: drivers that have not ended.
const (
	drivers = spark.RoleLabel + "=" + string(spark.Driver)
	alive   = "status.phase!=Succeeded,status.phase!=Failed"
)

const byUID = "uid"

func uidOf(object any) ([]string, error) {
	return []string{string(object.(*metav1.PartialObjectMetadata).UID)}, nil
}

// strip keeps of a driver what is read: less than 1 KiB of plans, however large its
// annotations are.
func strip(object any) (any, error) {
	driver, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	kept := &metav1.PartialObjectMetadata{
		TypeMeta:   driver.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: driver.Name, Namespace: driver.Namespace, UID: driver.UID, ResourceVersion: driver.ResourceVersion},
	}
	var all []annotations.RemedyPlan
	for _, p := range annotations.ReadRemedy(driver.Annotations[annotations.Remedy]) {
		if p.Refused = ""; p.Changes() {
			if p.Withdrawn != "" {
				p.Memory, p.Withdrawn = nil, ""
			}
			all = append(all, p)
		}
	}
	plans := annotations.RemedyText(all)
	if plans == "" {
		return kept, nil // most drivers
	}
	kept.Annotations = map[string]string{annotations.Remedy: plans}
	if mode := annotations.Mode(driver.Annotations[annotations.RemedyMode]); mode == annotations.Disabled || mode == annotations.Audit {
		kept.Annotations[annotations.RemedyMode] = string(mode)
	}
	return kept, nil
}

// Run watches until the context ends.
func (d *Drivers) Run(ctx context.Context) {
	if d.jobs != nil {
		go d.jobs.informer.RunWithContext(ctx)
	}
	d.informer.RunWithContext(ctx)
}

// Unknown returns why no plan is known, or "".
func (d *Drivers) Unknown() string {
	switch {
	case !d.informer.HasSynced():
		return "the webhook does not know all drivers yet"
	case d.failing.Load():
		return "the webhook cannot watch drivers now"
	}
	return ""
}

func (d *Drivers) count() float64 {
	if d.Unknown() != "" {
		return -1
	}
	return float64(len(d.informer.GetStore().ListKeys()))
}

// Of returns the plan for an executor that is created in a namespace, or nil. The
// executor's driver is the pod that owns it.
func (d *Drivers) Of(executor spark.Pod, namespace string) *annotations.RemedyPlan {
	owner, ok := executor.Driver()
	if !ok {
		return nil
	}
	found, err := d.informer.GetIndexer().ByIndex(byUID, string(owner.UID))
	if err != nil || len(found) != 1 {
		return nil
	}
	driver := found[0].(*metav1.PartialObjectMetadata)
	if driver.Namespace != namespace || driver.Name != owner.Name {
		return nil
	}
	return planIn(driver.Annotations, executor, d.now())
}

// planIn returns the plan for an executor among the annotations of its driver, or nil.
func planIn(of map[string]string, executor spark.Pod, now time.Time) *annotations.RemedyPlan {
	mode := annotations.Mode(of[annotations.RemedyMode])
	if mode == annotations.Disabled {
		return nil
	}
	for _, plan := range annotations.ReadRemedy(of[annotations.Remedy]) {
		if plan.Profile == executor.ResourceProfile() && plan.Application == executor.Application() && now.Before(plan.Until) && plan.Until.Sub(now) < longest {
			if mode == annotations.Audit {
				plan.Mode = annotations.Audit
			}
			return &plan
		}
	}
	return nil
}
