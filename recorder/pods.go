package recorder

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/spark"
)

// maxWatches is how many namespaces have their own watch. If more opt in, one watch
// sees all pods, because an API server allows 100 calls at a time on a connection, and
// a watch is one.
const maxWatches = 50

// podWatch is a watch of the pods of a namespace, or with "" of all.
type podWatch struct {
	cache.SharedIndexInformer
	begun    atomic.Bool
	stop     context.CancelFunc
	empty    atomic.Int32 // watches in a row without events
	failures failures
}

// listed reports whether the pods are known that existed when it began.
func (w *podWatch) listed() bool { return !w.begun.Load() || w.HasSynced() }

// watches are the watches of pods, by namespace. A namespace has its own, or there is
// one of all. While the one replaces the other, both exist.
type watches struct {
	mutex sync.Mutex
	of    map[string]*podWatch
	run   func(namespace string, w *podWatch) // nil until the recorder runs
}

// at returns the watch that sees a namespace's pods, or nil.
func (w *watches) at(namespace string) *podWatch {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if own := w.of[namespace]; own != nil {
		return own
	}
	return w.of[metav1.NamespaceAll]
}

// all returns all watches.
func (w *watches) all() []*podWatch {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return slices.Collect(maps.Values(w.of))
}

// watch starts to watch a namespace, or with "" all.
func (r *recorder) watch(namespace string) error {
	w := &podWatch{}
	pods := cache.ToListWatcherWithWatchListSemantics(paged.ListWatch(r.podsWatched(namespace, w), reading.Transform), r.Client)
	w.SharedIndexInformer = cache.NewSharedIndexInformerWithOptions(pods, &corev1.Pod{}, cache.SharedIndexInformerOptions{
		ResyncPeriod: r.Reconcile,
		Indexers:     cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc, byApplication: applicationIndex},
	})
	_, err := w.AddEventHandler(job.Handler(r.saw, r.gone))
	if err == nil {
		err = w.SetWatchErrorHandlerWithContext(func(ctx context.Context, reflector *cache.Reflector, err error) {
			r.metrics.errors.WithLabelValues("watch").Inc()
			w.failures.add(r.now())
			cache.DefaultWatchErrorHandler(ctx, reflector, err)
		})
	}
	if err != nil {
		return err
	}
	r.pods.mutex.Lock()
	defer r.pods.mutex.Unlock()
	r.pods.of[namespace] = w
	if r.pods.run != nil {
		r.pods.run(namespace, w)
	}
	return nil
}

// runWatches runs the current and later watches until the context ends.
func (r *recorder) runWatches(ctx context.Context, tasks *errgroup.Group) {
	r.pods.mutex.Lock()
	defer r.pods.mutex.Unlock()
	r.pods.run = func(namespace string, w *podWatch) {
		running, stop := context.WithCancel(ctx)
		w.stop = stop
		w.begun.Store(true)
		tasks.Go(func() error { w.RunWithContext(running); return nil })
		if namespace == metav1.NamespaceAll {
			tasks.Go(func() error { r.succeed(running, w); return nil })
		}
	}
	for namespace, w := range r.pods.of {
		r.pods.run(namespace, w)
	}
}

// follow watches a namespace that opts in. If many do, it watches all.
func (r *recorder) follow(namespace string) {
	r.pods.mutex.Lock()
	_, all := r.pods.of[metav1.NamespaceAll]
	_, known := r.pods.of[namespace]
	n := len(r.pods.of)
	r.pods.mutex.Unlock()
	switch {
	case all, known: // known: it opted out for less than optOutWait
		r.again(namespace)
		return
	case n >= maxWatches:
		r.Log.Info("so many namespaces opted in that one watch covers the pods of all", "namespaces", n)
		namespace = metav1.NamespaceAll
	}
	if err := r.watch(namespace); err != nil { // only if the informer were running already
		r.Log.Error("cannot watch pods", "namespace", namespace, "error", err)
	}
}

// unfollow stops to watch a namespace that no longer opts in.
func (r *recorder) unfollow(namespace string) {
	r.pods.mutex.Lock()
	defer r.pods.mutex.Unlock()
	if w := r.pods.of[namespace]; w != nil {
		delete(r.pods.of, namespace)
		if w.stop != nil {
			w.stop()
		}
	}
}

// succeed stops the watches of single namespaces, once the watch of all knows what they
// knew.
func (r *recorder) succeed(ctx context.Context, all *podWatch) {
	if !cache.WaitForCacheSync(ctx.Done(), all.HasSynced) {
		return
	}
	r.pods.mutex.Lock()
	own := slices.Collect(maps.Keys(r.pods.of))
	r.pods.mutex.Unlock()
	for _, namespace := range own {
		if namespace != metav1.NamespaceAll {
			r.unfollow(namespace)
		}
	}
}

// again looks at the pods of a namespace that were seen before it opted in.
func (r *recorder) again(namespace string) {
	for _, p := range r.podsIn(namespace) {
		r.saw(p)
	}
}

// podsIn returns the known pods of a namespace.
func (r *recorder) podsIn(namespace string) []*corev1.Pod {
	return r.indexed(namespace, cache.NamespaceIndex, namespace)
}

// podOf returns a known pod, or nil.
func (r *recorder) podOf(name types.NamespacedName) *corev1.Pod {
	w := r.pods.at(name.Namespace)
	if w == nil {
		return nil
	}
	found, _, _ := w.GetStore().GetByKey(name.String())
	p, _ := found.(*corev1.Pod)
	return p
}

// podsOf returns the known pods of an application.
func (r *recorder) podsOf(app application) []*corev1.Pod {
	return r.indexed(app.namespace, byApplication, app.namespace+"/"+app.id)
}

func (r *recorder) indexed(namespace, index, key string) (pods []*corev1.Pod) {
	w := r.pods.at(namespace)
	if w == nil {
		return nil
	}
	found, _ := w.GetIndexer().ByIndex(index, key)
	for _, o := range found {
		pods = append(pods, o.(*corev1.Pod))
	}
	return pods
}

const byApplication = "application"

func applicationIndex(object any) ([]string, error) {
	p := object.(*corev1.Pod)
	return []string{p.Namespace + "/" + p.Labels[spark.ApplicationLabel]}, nil
}

// listed reports whether the pods of a namespace are known that existed when its watch
// began. If not, an executor's driver may still be missing.
func (r *recorder) listed(namespace string) bool {
	w := r.pods.at(namespace)
	return w == nil || w.listed()
}

// sees reports whether the pods are known that existed at the start. If namespaces are
// named, those that can be listed are enough: a namespace or Role that was deleted must
// not delay the others.
func (r *recorder) sees() bool {
	unlisted := func(w *podWatch) bool { return !w.listed() }
	all := r.pods.all()
	if len(r.Namespaces) > 0 {
		return slices.ContainsFunc(all, func(w *podWatch) bool { return !unlisted(w) })
	}
	return !slices.ContainsFunc(all, unlisted)
}

// isBlind reports whether all watches have failed for maxBlind. The log and
// spark_vitals_recorder_errors_total show failures of a single namespace.
func (r *recorder) isBlind(now time.Time) bool {
	all := r.pods.all()
	return len(all) > 0 && !slices.ContainsFunc(all, func(w *podWatch) bool { return !w.failures.persist(now) })
}
