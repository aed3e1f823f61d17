package recorder

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	kubetesting "k8s.io/client-go/testing"
)

func watchError(err *apierrors.StatusError) watch.Event {
	return watch.Event{Type: watch.Error, Object: &err.ErrStatus}
}

// A reflector does not see errors after which it would list again. It sees that the
// history is gone, and what happens while it lists.
func TestResumingWatch(t *testing.T) {
	pod := watch.Event{Type: watch.Added, Object: &corev1.Pod{}}
	listed := watch.Event{Type: watch.Bookmark, Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}}
	broken := watchError(apierrors.NewInternalError(errors.New("http2: client connection lost")))
	gone := watchError(apierrors.NewResourceExpired("too old resource version"))
	const step = 400 * time.Millisecond
	for name, test := range map[string]struct {
		list   bool
		events []watch.Event
		want   []watch.Event
		lasts  time.Duration
	}{
		"ends early":        {false, nil, nil, time.Second},
		"breaks":            {false, []watch.Event{pod, broken}, []watch.Event{pod}, time.Second},
		"history gone":      {false, []watch.Event{pod, gone}, []watch.Event{pod, gone}, time.Second},
		"breaks in a list":  {true, []watch.Event{pod, broken}, []watch.Event{pod, broken}, time.Second},
		"breaks after that": {true, []watch.Event{pod, listed, broken}, []watch.Event{pod, listed}, 2*step + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from := watch.NewFake()
				go func() {
					defer from.Stop()
					for _, e := range test.events {
						time.Sleep(step)
						from.Action(e.Type, e.Object)
					}
				}()
				begun := time.Now()
				var got []watch.Event
				for e := range newResumingWatch(from, test.list, fine).ResultChan() {
					got = append(got, e)
				}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if lasted := time.Since(begun); lasted != test.lasts {
					t.Errorf("it lasted %s", lasted)
				}
			})
		})
	}
}

// Stop does not wait.
func TestResumingWatchIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := watch.NewFakeWithChanSize(1, false)
		from.Action(watch.Added, &corev1.Pod{})
		newResumingWatch(from, false, fine).Stop()
		synctest.Wait() // or the test fails by what still runs
		if !from.IsStopped() {
			t.Error("what it comes from goes on")
		}
	})
}

// A watch that cannot begin is tried again where it was, unless it is a list.
func TestWatchCannotBegin(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		options metav1.ListOptions
		same    bool
	}{
		"no answer":    {errors.New("EOF"), metav1.ListOptions{ResourceVersion: "7"}, false},
		"unavailable":  {apierrors.NewServiceUnavailable("starting"), metav1.ListOptions{ResourceVersion: "7"}, false},
		"history gone": {apierrors.NewResourceExpired("too old"), metav1.ListOptions{ResourceVersion: "7"}, true},
		"a list":       {errors.New("EOF"), metav1.ListOptions{SendInitialEvents: new(true)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := recording(t, dead(t, ""))
			s.PrependWatchReactor("pods", func(kubetesting.Action) (bool, watch.Interface, error) { return true, nil, test.err })
			_, err := s.podsWatched("", s.pods.at("")).WatchWithContext(t.Context(), test.options)
			if same := errors.Is(err, test.err); same != test.same || same == apierrors.IsTooManyRequests(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func fine(bool) *apierrors.StatusError { return nil }

// Watches that end at once, without events, are reported and end in a new list. Those of
// a cluster where nothing happens are not.
func TestEmptyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := recording(t, dead(t, ""))
		s.now = time.Now
		lists := 0
		for i := range 3 * maxEmpty {
			from := watch.NewFake()
			w := newResumingWatch(from, false, func(empty bool) *apierrors.StatusError { return s.ended(s.pods.at(""), empty) })
			if i < maxEmpty {
				time.Sleep(time.Minute)
			}
			from.Stop()
			for range w.ResultChan() {
				lists++
			}
		}
		if failed := testutil.ToFloat64(s.metrics.errors.WithLabelValues("watch")); lists != 2 || failed != 2*maxEmpty {
			t.Errorf("%d lists, %v failures", lists, failed)
		}
	})
}
