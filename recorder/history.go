package recorder

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/spark-vitals/spark-vitals/spark"
)

// podsWatched returns a list and watch of Spark's pods of a namespace. The watch
// resumes at its last event. A reflector only resumes by itself if a watch ends
// without an error, or if the next one is refused with 429. After any other error it
// lists again, and a list does not show which pods died and were deleted in the
// meantime. The API server's history does, on any server. So every error is turned
// into one of the two, unless that history is gone.
func (r *recorder) podsWatched(namespace string, by *podWatch) *cache.ListWatch {
	pods := r.Client.CoreV1().Pods(namespace)
	const selector = spark.RoleLabel + " in (driver,executor)"
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = selector
			lists := options.SendInitialEvents != nil
			w, err := pods.Watch(ctx, options)
			switch {
			case err == nil:
				return newResumingWatch(w, lists, func(empty bool) *apierrors.StatusError { return r.ended(by, empty) }), nil
			case lists || historyGone(err): // it is a list, or must be
				return nil, err
			}
			by.failures.add(r.now())
			r.failed("watch", err, "namespace", namespace)
			return nil, apierrors.NewTooManyRequestsError(err.Error())
		},
	}
}

func historyGone(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// minWatch is how long a watch must last for a reflector to resume with another.
const minWatch = time.Second

// maxEmpty is after how many watches that ended at once, without events, the recorder
// lists again. A new list may help.
const maxEmpty = 5

var errEmpty = errors.New("the watch ended at once, without events")

// ended handles the end of a watch. An error means that the reflector must list again.
func (r *recorder) ended(by *podWatch, empty bool) *apierrors.StatusError {
	if !empty {
		by.empty.Store(0)
		return nil
	}
	by.failures.add(r.now())
	r.failed("watch", errEmpty)
	if by.empty.Add(1)%maxEmpty == 0 {
		return apierrors.NewInternalError(errEmpty)
	}
	return nil
}

// resumingWatch turns the errors of a watch into ends, so that a reflector resumes at
// its resource version. It ends no sooner than after minWatch. If the watch begins with
// a list, errors during the list stay errors, and minWatch begins after the list.
type resumingWatch struct {
	*watch.ProxyWatcher
	source watch.Interface
	events chan watch.Event
	lists  bool // the list has not ended
	begun  time.Time
	empty  bool // no event since it began
	// ended is called at the end. If it returns an error, that becomes the last event.
	ended func(empty bool) *apierrors.StatusError
}

func newResumingWatch(source watch.Interface, lists bool, ended func(empty bool) *apierrors.StatusError) *resumingWatch {
	events := make(chan watch.Event)
	w := &resumingWatch{watch.NewProxyWatcher(events), source, events, lists, time.Now(), true, ended}
	go w.run()
	return w
}

// Stop implements watch.Interface.
func (w *resumingWatch) Stop() {
	w.ProxyWatcher.Stop()
	w.source.Stop()
}

func (w *resumingWatch) run() {
	defer close(w.events)
	defer w.source.Stop()
	for event := range w.source.ResultChan() {
		if event.Type == watch.Error && !w.lists && !historyGone(apierrors.FromObject(event.Object)) {
			break
		}
		w.empty = false
		if w.lists && endsList(event) { // the reflector's next watch begins
			w.lists, w.begun, w.empty = false, time.Now(), true
		}
		w.send(event)
	}
	rest := minWatch - time.Since(w.begun)
	select {
	case <-time.After(rest):
	case <-w.StopChan():
		return
	}
	if err := w.ended(rest > 0 && w.empty); err != nil {
		w.send(watch.Event{Type: watch.Error, Object: &err.ErrStatus})
	}
}

func (w *resumingWatch) send(event watch.Event) {
	select {
	case w.events <- event:
	case <-w.StopChan():
	}
}

func endsList(event watch.Event) bool {
	pod, ok := event.Object.(*corev1.Pod)
	return ok && event.Type == watch.Bookmark && pod.Annotations[metav1.InitialEventsAnnotationKey] == "true"
}
