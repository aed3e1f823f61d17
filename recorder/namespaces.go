package recorder

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/paged"
)

// namespaces are those that opted in to the webhook. They are watched. If the recorder
// is limited to some namespaces and has no right to watch all, it reads these every
// minute.
type namespaces struct {
	watched   cache.SharedIndexInformer // nil if they are read
	followed  cache.InformerSynced      // whether all that existed at the start are followed
	recorder  *recorder
	mutex     sync.Mutex
	asked     []string // those that are read and opted in
	forbidden bool     // and logged
}

// askAgain is how often namespaces are read that are not watched.
const askAgain = time.Minute

func (r *recorder) knowNamespaces() error {
	r.namespaces.recorder = r
	if len(r.Namespaces) > 0 {
		return nil
	}
	all := r.Client.CoreV1().Namespaces()
	const selector = annotations.Inject + " in (" + string(annotations.Enabled) + "," + string(annotations.Audit) + ")"
	of := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			return all.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = selector
			return all.Watch(ctx, options)
		},
	}
	watched := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(paged.ListWatch(of, stripNamespace), r.Client), &corev1.Namespace{}, 0, nil)
	handler, err := watched.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { r.follow(object.(*corev1.Namespace).Name) },
		DeleteFunc: func(object any) { r.optsOut(object) },
	})
	if err != nil {
		return err
	}
	r.namespaces.watched, r.namespaces.followed = watched, handler.HasSynced
	return nil
}

func (r *recorder) optsOut(object any) {
	name, err := cache.DeletionHandlingObjectToName(object)
	if err != nil {
		return
	}
	// If a tool replaces the namespace, the label may be back in seconds. Until then the
	// watch stays, and nothing is recorded.
	time.AfterFunc(r.optOutWait, func() {
		if !r.recordsIn(name.Name) {
			r.unfollow(name.Name)
		}
	})
}

func stripNamespace(object any) (any, error) {
	if n, ok := object.(*corev1.Namespace); ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, ResourceVersion: n.ResourceVersion}}, nil
	}
	return object, nil
}

// run runs until the context ends. It returns true once all are known.
func (n *namespaces) run(ctx context.Context, tasks *errgroup.Group) bool {
	if n.watched != nil {
		tasks.Go(func() error { n.watched.RunWithContext(ctx); return nil })
		return cache.WaitForCacheSync(ctx.Done(), n.followed)
	}
	tasks.Go(func() error { wait.UntilWithContext(ctx, n.ask, askAgain); return nil })
	return true
}

// ask reads which of the namespaces opted in. If that is forbidden, missed injections
// are not counted.
func (n *namespaces) ask(ctx context.Context) {
	var asked []string
	for _, name := range n.recorder.Namespaces {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		namespace, err := n.recorder.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		cancel()
		if mode := annotations.Mode(namespace.GetLabels()[annotations.Inject]); err == nil && (mode == annotations.Enabled || mode == annotations.Audit) {
			asked = append(asked, name)
		}
		if err != nil && !n.forbidden {
			n.forbidden = true
			n.recorder.Log.Warn("cannot read if a namespace opted in, so missed injections there are not counted", "namespace", name, "error", err)
		}
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.asked = asked
}

// all returns all that opted in.
func (n *namespaces) all() []string {
	if n.watched != nil {
		return n.watched.GetIndexer().ListKeys()
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return slices.Clone(n.asked)
}

// recordsIn reports whether a namespace is recorded, because it is named or opted in.
func (r *recorder) recordsIn(namespace string) bool {
	if r.Everywhere || len(r.Namespaces) > 0 {
		return true
	}
	_, optedIn, _ := r.namespaces.watched.GetIndexer().GetByKey(namespace)
	return optedIn
}
