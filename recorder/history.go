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

// podsWatched are Spark's pods of a namespace, by a watch that goes on where it was. A
// reflector goes on by itself where a watch ends in good order, or where the next
// one is refused with 429. After any other trouble it lists all anew, and a list
// does not tell who died and was deleted meanwhile. The API server's history
// does, whichever server is asked. So all trouble is told as one of the two,
// unless that history is gone.
func (r *recorder) podsWatched(namespace string, by *namespaced) *cache.ListWatch {
	pods := r.Client.CoreV1().Pods(namespace)
	ended := func(barren bool) *apierrors.StatusError { return r.ended(by, barren) }
	const selector = spark.RoleLabel + " in (driver,executor)"
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = selector
			w, err := pods.Watch(ctx, options)
			switch {
			case err == nil:
				return goingOn(w, options.SendInitialEvents != nil, ended), nil
			case options.SendInitialEvents != nil || historyGone(err): // it is a list, or must be
				return nil, err
			}
			by.blind.failed(r.now())
			r.failed("watch", err, "namespace", namespace)
			return nil, apierrors.NewTooManyRequestsError(err.Error())
		},
	}
}

func historyGone(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// atLeast is how long a watch must last for a reflector to go on with another.
const atLeast = time.Second

// maxBarren watches in a row that end at once and told nothing are trouble that a
// new list may find the way out of.
const maxBarren = 5

var errBarren = errors.New("the watch ended at once, without events")

// ended is told of each watch's end, and says whether to list anew.
func (r *recorder) ended(by *namespaced, barren bool) *apierrors.StatusError {
	if !barren {
		by.barren.Store(0)
		return nil
	}
	by.blind.failed(r.now())
	r.failed("watch", errBarren)
	if by.barren.Add(1)%maxBarren == 0 {
		return apierrors.NewInternalError(errBarren)
	}
	return nil
}

// goingOn is a watch whose errors are ends, and which ends no sooner than after
// a second; while it begins with a list, its errors are the reflector's, and the
// second begins with the list's end.
func goingOn(w watch.Interface, list bool, ended func(barren bool) *apierrors.StatusError) watch.Interface {
	events := make(chan watch.Event)
	going := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer w.Stop()
		begun, told := time.Now(), false
		for {
			select {
			case <-going.StopChan():
				return
			case event, ok := <-w.ResultChan():
				if !ok || event.Type == watch.Error && !list && !historyGone(apierrors.FromObject(event.Object)) {
					rest := atLeast - time.Since(begun)
					select {
					case <-time.After(rest):
					case <-going.StopChan():
						return
					}
					if err := ended(rest > 0 && !told); err != nil {
						event = watch.Event{Type: watch.Error, Object: &err.ErrStatus}
						select {
						case events <- event:
						case <-going.StopChan():
						}
					}
					return
				}
				told = true
				if list && endsList(event) { // the reflector's next watch begins
					list, begun, told = false, time.Now(), false
				}
				select {
				case events <- event:
				case <-going.StopChan():
					return
				}
			}
		}
	}()
	return going
}

func endsList(event watch.Event) bool {
	pod, ok := event.Object.(*corev1.Pod)
	return ok && event.Type == watch.Bookmark && pod.Annotations[metav1.InitialEventsAnnotationKey] == "true"
}
