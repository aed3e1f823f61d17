package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Config of a recorder.
type Config struct {
	Client kubernetes.Interface
	// Everywhere records in all namespaces; otherwise in those that opted in to
	// the webhook with the label spark-vitals.io/inject.
	Everywhere bool
	// ReadConfigMaps reads a dead driver's heap from its ConfigMap.
	ReadConfigMaps bool
	// Reconcile is how often all pods are looked at again.
	Reconcile time.Duration
	// Addresses to listen on, "host:port".
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

const (
	workers = 8
	// Executors often die together, so their facts wait for each other; and not
	// equally long in each replica, so that the slower one finds them written.
	waitAtLeast, waitAtMost = 100 * time.Millisecond, 300 * time.Millisecond
	// A driver's death is urgent: a gateway's users wait for its release.
	driverWaitAtMost = 50 * time.Millisecond
	// Between attempts at a driver.
	firstRetry, lastRetry = 100 * time.Millisecond, 10 * time.Second
	// For what is still to be written when the recorder ends.
	finishTimeout = 10 * time.Second
	// Deaths without a driver that are remembered.
	maxTold = 8192
)

type recorder struct {
	Config
	metrics    *metrics
	facts      facts
	queue      workqueue.TypedRateLimitingInterface[application]
	pods       cache.SharedIndexInformer
	namespaces cache.SharedIndexInformer
	told       *lru.Cache
	instance   string
	now        func() time.Time
}

func newRecorder(c Config, registry prometheus.Registerer) (*recorder, error) {
	r := &recorder{Config: c, metrics: newMetrics(registry), told: lru.New(maxTold), now: time.Now}
	r.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[application](firstRetry, lastRetry))
	r.instance, _ = os.Hostname() // "" is refused by the API server
	if r.instance == "" {
		r.instance = fieldManager
	}
	r.pods = informers.NewSharedInformerFactoryWithOptions(c.Client, c.Reconcile, selecting(spark.RoleLabel+" in (driver,executor)")).Core().V1().Pods().Informer()
	r.namespaces = informers.NewSharedInformerFactoryWithOptions(c.Client, 0, selecting(annotations.Inject+" in (enabled,audit)")).Core().V1().Namespaces().Informer()
	_, err := r.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    r.saw,
		UpdateFunc: func(_, now any) { r.saw(now) },
		DeleteFunc: r.saw,
	})
	registry.MustRegister(newMissed(r.missedInjections), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_deaths_waiting", Help: "Deaths that were seen and are not written yet.",
	}, func() float64 { return float64(r.facts.count()) }))
	return r, errors.Join(err,
		r.pods.SetTransform(strip),
		r.pods.AddIndexers(cache.Indexers{byApplication: applicationIndex}),
		r.namespaces.SetTransform(stripNamespace),
	)
}

func selecting(selector string) informers.SharedInformerOption {
	return informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = selector })
}

func stripNamespace(object any) (any, error) {
	if n, ok := object.(*corev1.Namespace); ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, ResourceVersion: n.ResourceVersion}}, nil
	}
	return object, nil
}

const byApplication = "application"

func applicationIndex(object any) ([]string, error) {
	p := object.(*corev1.Pod)
	return []string{p.Namespace + "/" + p.Labels[spark.ApplicationLabel]}, nil
}

// podsOf an application that are in the cache.
func (r *recorder) podsOf(app application) (pods []*corev1.Pod) {
	found, _ := r.pods.GetIndexer().ByIndex(byApplication, app.namespace+"/"+app.id)
	for _, o := range found {
		pods = append(pods, o.(*corev1.Pod))
	}
	return pods
}

// saw a pod: as it was added, changed or deleted, or as it still is.
func (r *recorder) saw(object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	p, ok := object.(*corev1.Pod)
	if !ok || !r.Everywhere && !r.optedIn(p.Namespace) {
		return
	}
	pod, err := spark.PodOf(p)
	if err != nil {
		return
	}
	facts := factsOf(p)
	if len(facts) == 0 {
		return
	}
	app := applicationOf(pod)
	r.facts.add(app, facts)
	wait := rand.N(driverWaitAtMost)
	if pod.Role == spark.Executor {
		wait = waitAtLeast + rand.N(waitAtMost-waitAtLeast)
	}
	r.queue.AddAfter(app, wait)
}

func (r *recorder) optedIn(namespace string) bool {
	_, found, _ := r.namespaces.GetIndexer().GetByKey(namespace)
	return found
}

// missedInjections are pods that run without the webhook's stamp where it
// should have been, by namespace.
func (r *recorder) missedInjections() map[string]int {
	n := map[string]int{}
	for _, o := range r.pods.GetIndexer().List() {
		p := o.(*corev1.Pod)
		_, stamped := p.Annotations[annotations.Injected]
		over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if !stamped && !over && p.Annotations[annotations.Inject] != "disabled" && r.optedIn(p.Namespace) {
			n[p.Namespace]++
		}
	}
	return n
}

// work until the queue is shut down.
func (r *recorder) work(ctx context.Context) {
	for {
		app, shutdown := r.queue.Get()
		if shutdown {
			return
		}
		if err := r.attempt(ctx, app); err != nil {
			r.queue.AddRateLimited(app)
		} else {
			r.queue.Forget(app)
		}
		r.queue.Done(app)
	}
}

func (r *recorder) attempt(ctx context.Context, app application) error {
	facts, done := r.facts.take(app)
	defer done()
	if len(facts) == 0 {
		return nil
	}
	err := r.write(ctx, app, facts)
	if err != nil {
		r.facts.add(app, facts)
		r.metrics.errors.WithLabelValues("record").Inc()
		r.Log.Warn("deaths are not written yet", "namespace", app.namespace, "application", app.id, "deaths", len(facts), "error", err)
	}
	return err
}

// finish writes what is left when the recorder is told to end.
func (r *recorder) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	for _, app := range r.facts.applications() {
		_ = r.attempt(ctx, app) // is told
	}
}

// Run records until the context ends.
func Run(ctx context.Context, c Config) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r, err := newRecorder(c, registry)
	if err != nil {
		return err
	}
	tasks, running := errgroup.WithContext(ctx)
	if err := errors.Join(
		serve(running, tasks, "metrics-bind-address", c.MetricsBindAddress, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})),
		serve(running, tasks, "health-probe-bind-address", c.HealthProbeBindAddress, r.health()),
	); err != nil {
		return err
	}
	tasks.Go(func() error { return r.run(running) })
	return tasks.Wait()
}

func (r *recorder) run(ctx context.Context) error {
	tasks := new(errgroup.Group)
	tasks.Go(func() error { r.namespaces.RunWithContext(ctx); return nil })
	// Only then the pods, so that it is known which of them to record.
	if !cache.WaitForCacheSync(ctx.Done(), r.namespaces.HasSynced) {
		return tasks.Wait()
	}
	tasks.Go(func() error { r.pods.RunWithContext(ctx); return nil })
	if !cache.WaitForCacheSync(ctx.Done(), r.pods.HasSynced) {
		return tasks.Wait()
	}
	r.Log.Info("recording", "everywhere", r.Everywhere, "pods", len(r.pods.GetIndexer().ListKeys()))
	writing := context.WithoutCancel(ctx) // a patch under way is not taken back
	for range workers {
		tasks.Go(func() error { r.work(writing); return nil })
	}
	<-ctx.Done()
	r.queue.ShutDown()
	err := tasks.Wait()
	r.finish(ctx)
	return err
}

func (r *recorder) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !r.pods.HasSynced() {
			http.Error(w, "Spark's pods are not listed yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// serve plain HTTP on an address until the context ends.
func serve(ctx context.Context, tasks *errgroup.Group, flag, address string, handler http.Handler) error {
	if flag == "metrics-bind-address" {
		mux := http.NewServeMux()
		mux.Handle("/metrics", handler)
		handler = mux
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening on --%s: %w", flag, err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: finishTimeout, WriteTimeout: finishTimeout}
	tasks.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	tasks.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}
