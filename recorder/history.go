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

// podsWatched lists and watches Spark's pods of a namespace, by a watch that resumes
// where it was. A reflector only resumes by itself if a watch ends without an error, or
// if the next one is refused with 429. After any other error it lists again, and a list
// does not show which pods died and were deleted in the meantime. The API server's
// history does, on any server. So every error is turned into one of the two, unless
// that history is gone.
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

// atLeast is how long a watch must last for a reflector to resume with another.
const atLeast = time.Second

// maxBarren is after how many watches that ended at once, without events, the recorder
// lists again. A new list may help.
const maxBarren = 5

var errBarren = errors.New("the watch ended at once, without events")

// ended handles the end of a watch. An error means that the reflector must list again.
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

// goingOn returns a watch that resumes: its errors become ends, and it ends no sooner
// than after a second. If the watch begins with a list, errors during the list stay
// errors, and the second begins after the list.
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
