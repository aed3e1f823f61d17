package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Config is the configuration of a recorder.
type Config struct {
	Client kubernetes.Interface
	// Namespaces are the namespaces of the pods that are seen and recorded, whatever
	// their labels. None means those that opted in to the webhook with the label
	// spark-vitals.io/inject.
	Namespaces []string
	// Everywhere records in all namespaces, and also pods that opted out.
	Everywhere bool
	// DriverUI is asked for the settings of applications and for what their executors
	// measured; nil asks no driver.
	DriverUI DriverUI
	// ReadConfigMaps reads a dead driver's heap from its ConfigMap.
	ReadConfigMaps bool
	// Jobs says what is kept of the runs of SparkJobs.
	Jobs Jobs
	// LeaseNamespace is the namespace of the lease by which one of several replicas writes
	// first. If it is "", each replica writes at once.
	LeaseNamespace string
	// Reconcile is how often all pods are looked at again.
	Reconcile time.Duration
	// The addresses to listen on are "host:port".
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

const (
	workers = 16
	// waitAtLeast and waitAtMost limit a random wait. Executors often die together, so
	// their facts wait for each other. The wait differs between replicas, so the
	// slower one finds them written.
	waitAtLeast, waitAtMost = 100 * time.Millisecond, 300 * time.Millisecond
	// driverWaitAtMost is short, because a gateway's users wait for a driver's
	// release.
	driverWaitAtMost = 50 * time.Millisecond
	// firstRetry and lastRetry limit the wait between attempts at a driver.
	firstRetry, lastRetry = 100 * time.Millisecond, 10 * time.Second
	// maxFailures is after how many failures a death is reported although it is not
	// written, and a refusal is believed.
	maxFailures = 8
	// refusedWait is after how long a refused write is tried again.
	refusedWait = 2 * time.Minute
	// backlogRate is how many old deaths, found at a first start or an opt-in, are
	// written a second, because all watchers of drivers get each patch. The others try
	// again within backlogWait.
	backlogRate, backlogWait = 10, 20 * time.Second
	// optInWait is for a namespace that is known a little later than its pods.
	optInWait = 10 * time.Second
	// attemptTimeout limits all calls of an attempt, and callTimeout limits one.
	attemptTimeout, callTimeout = 30 * time.Second, 10 * time.Second
	// finishTimeout limits the last writes when the recorder ends.
	finishTimeout = 10 * time.Second
	// maxBlind is after how long of failed watching the recorder is not ready.
	maxBlind = 5 * time.Minute
	// conditionPause is after how long a removed condition is written again.
	conditionPause = 10 * time.Minute
	// maxRemembered is how many deaths without a driver are remembered.
	maxRemembered = 8192
)

type recorder struct {
	Config
	metrics    *metrics
	facts      facts
	queue      workqueue.TypedRateLimitingInterface[application]
	pods       watches
	namespaces namespaces
	queued     *lru.Cache
	previous   previous
	knowledge  *knowledge
	jobs       *jobs // nil if no runs are kept
	events     workqueue.TypedRateLimitingInterface[*deathEvent]
	pending    atomic.Int64 // Events that are not created yet
	backlog    *rate.Limiter
	replicas   replicas
	short      *lru.Cache // since when plans have fewer executors than before
	raised     *lru.Cache // plans with more memory that an executor has had
	unplanned  *lru.Cache // by the driver's UID, facts whose plan waits for its UI
	conditions *lru.Cache // of drivers' deaths that this replica wrote, and when
	ending     atomic.Bool
	ready      atomic.Bool
	optOutWait time.Duration
	followWait time.Duration
	instance   string
	now        func() time.Time
}

func newRecorder(c Config, registry prometheus.Registerer) (*recorder, error) {
	r := &recorder{Config: c, metrics: newMetrics(registry), queued: lru.New(maxRemembered), previous: newPrevious(), knowledge: newKnowledge(c.DriverUI), jobs: newJobs(c.Jobs), replicas: newReplicas(), conditions: lru.New(maxRemembered), short: lru.New(maxRemembered), raised: lru.New(maxRemembered), unplanned: lru.New(maxRemembered), optOutWait: time.Minute, followWait: followWait, now: time.Now}
	r.queue = workqueue.NewTypedRateLimitingQueue(retries[application]())
	r.events = workqueue.NewTypedRateLimitingQueue(retries[*deathEvent]())
	r.backlog = rate.NewLimiter(backlogRate, backlogRate)
	r.instance, _ = os.Hostname() // "" is refused by the API server
	if r.instance == "" {
		r.instance = fieldManager
	}
	r.instance = fmt.Sprintf("%.100s-%d", r.instance, os.Getpid())
	r.pods.of = map[string]*podWatch{}
	registry.MustRegister(newMissed(r.missedInjections), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_deaths_waiting", Help: "Deaths that are due and not yet written, and Events that are not yet created.",
	}, func() float64 { return float64(r.facts.due(r.now())) + float64(r.pending.Load()) }))
	errs := []error{r.knowNamespaces()}
	watched := c.Namespaces
	if len(watched) == 0 && c.Everywhere {
		watched = []string{metav1.NamespaceAll}
	}
	for _, namespace := range watched {
		errs = append(errs, r.watch(namespace))
	}
	return r, errors.Join(errs...)
}

// retries slows down each item by itself, and all together.
func retries[T comparable]() workqueue.TypedRateLimiter[T] {
	return workqueue.NewTypedMaxOfRateLimiter(
		workqueue.NewTypedItemExponentialFailureRateLimiter[T](firstRetry, lastRetry),
		&workqueue.TypedBucketRateLimiter[T]{Limiter: rate.NewLimiter(50, 500)},
	)
}

// gone handles a deleted pod. If the watch broke, its end is unknown: it may not have
// been seen, and never is.
func (r *recorder) gone(p *corev1.Pod, unknown bool) {
	if unknown && len(factsOf(p, r.now())) == 0 && p.DeletionTimestamp == nil && (p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending) {
		r.metrics.unseen.Inc()
		r.Log.Warn("a pod is gone, and its end was not seen", "namespace", p.Namespace, "pod", p.Name)
	}
	r.saw(p)
	r.lostRun(p)
}

// saw handles a pod that was added, changed or deleted, or is looked at again.
func (r *recorder) saw(p *corev1.Pod) {
	pod, err := spark.PodOf(p)
	if err != nil {
		return
	}
	facts := factsOf(p, r.now())
	delay := rand.N(driverWaitAtMost)
	if pod.Role == spark.Executor {
		delay = waitAtLeast + rand.N(waitAtMost-waitAtLeast)
	}
	if !r.recordsIn(p.Namespace) {
		delay = optInWait // again finds what is older, if it still exists
		facts = slices.DeleteFunc(facts, func(f fact) bool { return r.now().Sub(f.At.Time) > time.Minute })
	}
	app, later := applicationOf(pod), r.replicas.delay()
	if pod.Role == spark.Driver {
		if r.recordsIn(p.Namespace) && r.records(pod) {
			r.knowledge.saw(pod, r.now())
		}
		r.sawRun(pod)
		if r.sawDriver(pod) {
			r.queue.AddAfter(app, delay+later)
		}
		if slices.ContainsFunc(plansOf(pod), func(p annotations.RemedyPlan) bool { return remedy.IsToBeLookedAt(&p, r.now()) }) {
			r.queue.AddAfter(app, remedy.Look+later)
		}
	}
	if pod.Role == spark.Executor {
		r.sawExecutor(pod, app.driver)
	}
	if len(facts) == 0 {
		if mayNeedPlan(p) && r.knowledge.isUnprepared(app.driver) {
			r.queue.AddAfter(app, prepareWait)
		}
		return
	}
	if slices.ContainsFunc(facts, func(f fact) bool { return f.mayBeRemedied() && r.now().Sub(f.At.Time) < time.Minute }) {
		// Spark creates the next executor soon, so facts wait for a short time, and the driver
		// is asked meanwhile.
		delay = waitAtLeast
		r.knowledge.askForPlan(context.Background(), app.driver, r.now(), func() spark.Pod { return r.runningDriver(app) }, r.now())
	}
	for i := range facts {
		facts[i].due = r.now().Add(later)
	}
	r.facts.add(app, facts)
	r.queue.AddAfter(app, delay+later)
}

// runningDriver returns the driver of an application, if it runs and is recorded.
func (r *recorder) runningDriver(app application) (driver spark.Pod) {
	driver = app.among(r.podsOf(app))
	if driver.Pod == nil || !r.recordsIn(app.namespace) || !r.records(driver) {
		return spark.Pod{}
	}
	if _, ended := driver.End(); ended {
		return spark.Pod{}
	}
	return driver
}

// missedInjections returns how many pods run without a stamp although they should have
// one, by namespace.
func (r *recorder) missedInjections() map[string]int {
	n := map[string]int{}
	for _, namespace := range r.namespaces.all() {
		for _, p := range r.podsIn(namespace) {
			_, stamped := p.Annotations[annotations.Injected]
			over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
			if !stamped && !over && p.Annotations[annotations.Inject] != string(annotations.Disabled) {
				n[namespace]++
			}
		}
	}
	return n
}

// work works until the queue is shut down.
func (r *recorder) work(ctx context.Context) {
	for {
		app, shutdown := r.queue.Get()
		if shutdown {
			return
		}
		outcome := unlisted
		if r.listed(app.namespace) {
			outcome = r.attempt(ctx, app)
		}
		switch {
		case outcome.done():
			r.queue.Forget(app)
		case outcome == unlisted:
			r.queue.AddAfter(app, waitAtMost)
		case outcome == postponed:
			r.queue.AddAfter(app, rand.N(backlogWait))
		case outcome == refused && r.queue.NumRequeues(app) >= maxFailures:
			r.queue.AddAfter(app, refusedWait+rand.N(refusedWait))
		default:
			r.queue.AddRateLimited(app)
		}
		r.queue.Done(app)
	}
}

// attempt writes the facts of an application that are due.
func (r *recorder) attempt(ctx context.Context, app application) (outcome outcome) {
	facts, next := r.facts.take(app, r.now())
	defer func() { r.facts.done(app, facts, outcome.done()) }()
	if !next.IsZero() {
		r.queue.AddAfter(app, next.Sub(r.now()))
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	log := r.Log.With("namespace", app.namespace, "application", app.id, "deaths", len(facts))
	defer func() {
		if mistake := recover(); mistake != nil { // it must not affect other applications
			r.metrics.errors.WithLabelValues("panic").Inc()
			log.Error("deaths are lost because of a bug in spark-vitals", "panic", mistake, "stack", string(debug.Stack()))
			outcome = dropped
		}
	}()
	if len(facts) == 0 {
		return r.carry(ctx, app)
	}
	outcome, err := r.write(ctx, app, facts)
	if err != nil {
		r.metrics.errors.WithLabelValues("record").Inc()
		log.Warn("deaths are not written yet", "error", err)
	}
	return outcome
}

// finish writes and reports what is left when the recorder is asked to end, until the
// context ends.
func (r *recorder) finish(ctx context.Context) {
	r.ending.Store(true)
	r.facts.hurry()
	_ = wait.PollUntilContextCancel(ctx, firstRetry, true, func(context.Context) (bool, error) {
		var again atomic.Bool
		tasks := new(errgroup.Group)
		tasks.SetLimit(workers)
		for _, app := range r.facts.applications() {
			if !r.listed(app.namespace) {
				continue
			}
			tasks.Go(func() error {
				if outcome := r.attempt(ctx, app); !outcome.done() && outcome != postponed && outcome != refused {
					again.Store(true)
				}
				return nil
			})
		}
		_ = tasks.Wait()
		return !again.Load(), nil
	})
	_ = wait.PollUntilContextCancel(ctx, firstRetry, true, func(context.Context) (bool, error) { return r.pending.Load() == 0, nil })
}

// Run records until the context ends.
func Run(ctx context.Context, c Config) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r, err := newRecorder(c, registry) //nolint:contextcheck // a question to a driver outlives the pod's change because of which it is asked
	if err != nil {
		return err
	}
	tasks, running := errgroup.WithContext(ctx)
	servers := job.Servers{Metrics: c.MetricsBindAddress, Health: c.HealthProbeBindAddress, Registry: registry, Ready: r.isReady}
	if err := servers.Serve(running, tasks); err != nil {
		return err
	}
	tasks.Go(func() error { return r.run(running) })
	return tasks.Wait()
}

func (r *recorder) run(ctx context.Context) error {
	tasks := new(errgroup.Group)
	// The pods come after the namespaces, so it is known which of them to record.
	if !r.namespaces.run(ctx, tasks) {
		return tasks.Wait()
	}
	r.runWatches(ctx, tasks)
	tasks.Go(func() error {
		// It reads the watches each time: one that was stopped before it had listed never
		// lists.
		err := wait.PollUntilContextCancel(ctx, waitAtMost, true, func(context.Context) (bool, error) { return r.sees(), nil })
		if err == nil {
			r.ready.Store(true)
			r.Log.Info("recording", "everywhere", r.Everywhere, "watches", len(r.pods.all()))
		}
		return nil
	})
	// A patch in progress gets some time to finish.
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, stop) })
	creating := new(errgroup.Group)
	for range workers {
		tasks.Go(func() error { r.work(writing); return nil })
		go r.knowledge.learn(ctx, r.podOf, r.now) // the end does not wait for it
		creating.Go(func() error { r.createEvents(writing); return nil })
	}
	r.runJobs(ctx, tasks.Go)
	electing := new(errgroup.Group) // its end does not delay the last writes
	if r.LeaseNamespace != "" {
		electing.Go(func() error { return r.elect(ctx) })
	}
	<-ctx.Done()
	r.queue.ShutDown()
	err := tasks.Wait()
	r.finish(writing)
	r.events.ShutDown()
	return errors.Join(err, creating.Wait(), electing.Wait())
}

// isReady returns nil, or why the recorder sees no pods.
func (r *recorder) isReady() error {
	switch {
	case !r.ready.Load():
		return errors.New("not all pods of Spark are listed yet")
	case r.isBlind(r.now()):
		return errors.New("pods of Spark cannot be watched")
	}
	return nil
}
