package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/spark-vitals/spark-vitals/spark"
)

// History is everything that was seen of the pods and Events of a namespace.
type History struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	blind   error         // not all was seen
	pods    map[types.UID]*PodHistory
	events  map[types.UID]*Event
}

// Event is an Event as it was last seen.
type Event struct {
	*corev1.Event
	First time.Time // when it was first seen
}

// PodHistory is what was seen of a pod.
type PodHistory struct {
	Last    *corev1.Pod // as it was last seen
	Writes  int         // how often its status was written
	Deleted bool
	// EverReady: it was Ready at some time.
	EverReady bool
	// Ended without being asked to: Spark's container ended before anybody
	// deleted the pod.
	Unasked bool
}

// Watch watches a namespace until the context ends.
func (l *Lab) Watch(ctx context.Context, namespace string) (*History, error) {
	h := &History{changed: make(chan struct{}), pods: map[types.UID]*PodHistory{}, events: map[types.UID]*Event{}}
	list, err := l.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, watched := range []cache.WatchFuncWithContext{l.Client.CoreV1().Pods(namespace).Watch, l.Client.CoreV1().Events(namespace).Watch} {
		// An API server ends a watch after half an hour, and images may take that long.
		w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: watched})
		if err != nil {
			return nil, err
		}
		go h.follow(ctx, w)
	}
	return h, nil
}

func (h *History) follow(ctx context.Context, w watch.Interface) {
	for change := range w.ResultChan() {
		h.mu.Lock()
		switch object := change.Object.(type) {
		case *corev1.Pod:
			h.sawPod(change.Type, object)
		case *corev1.Event:
			if h.events[object.UID] == nil {
				h.events[object.UID] = &Event{First: time.Now()}
			}
			h.events[object.UID].Event = object
		}
		h.notify()
		h.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() == nil {
		h.blind = errors.New("a watch was broken for so long that it cannot go on: what came meanwhile was not seen")
		h.notify()
	}
}

func (h *History) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *History) sawPod(change watch.EventType, pod *corev1.Pod) {
	p := h.pods[pod.UID]
	if p == nil && change != watch.Added {
		return // it was there before, and belongs to an earlier run
	}
	if p == nil {
		p = &PodHistory{}
		h.pods[pod.UID] = p
	}
	if change == watch.Modified && !equality.Semantic.DeepEqual(p.Last.Status, pod.Status) {
		p.Writes++
	}
	p.EverReady = p.EverReady || isReady(pod)
	ended := p.Last != nil && p.Terminated() != nil
	p.Last, p.Deleted = pod, change == watch.Deleted
	if !ended && p.Terminated() != nil {
		p.Unasked = pod.DeletionTimestamp == nil
	}
}

// IsReady reports whether the pod was Ready when it was last seen.
func (p *PodHistory) IsReady() bool { return isReady(p.Last) }

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Until waits until a condition holds for what was seen so far.
func (h *History) Until(ctx context.Context, what string, holds func(*History) bool) error {
	for {
		h.mu.Lock()
		changed, ok, blind := h.changed, holds(h), h.blind
		h.mu.Unlock()
		if ok || blind != nil {
			return blind
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
}

// Look calls a function while the history does not change.
func (h *History) Look(f func(*History)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Pods returns the pods of a role in the order of their creation. Use it only within
// Until and Look.
func (h *History) Pods(role spark.Role) (pods []*PodHistory) {
	for _, p := range h.pods {
		if p.Last.Labels[spark.RoleLabel] == string(role) {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, func(a, b *PodHistory) int {
		return a.Last.CreationTimestamp.Compare(b.Last.CreationTimestamp.Time)
	})
	return pods
}

// Driver returns the only driver, or nil. Use it only within Until and Look.
func (h *History) Driver() *PodHistory {
	if drivers := h.Pods(spark.Driver); len(drivers) > 0 {
		return drivers[0]
	}
	return nil
}

// Events returns the Events of a pod by reason. Use it only within Until and Look.
func (h *History) Events(pod *corev1.Pod) map[string][]*Event {
	byReason := map[string][]*Event{}
	for _, e := range h.events {
		if e.InvolvedObject.UID == pod.UID {
			byReason[e.Reason] = append(byReason[e.Reason], e)
		}
	}
	return byReason
}

// Killing returns the kubelet's Events about ending Spark's container of a pod, whether
// a probe failed or the pod was deleted. Use it only within Until and Look.
func (h *History) Killing(p *PodHistory) (events []*Event) {
	pod, err := spark.PodOf(p.Last)
	if err != nil {
		return nil
	}
	for _, e := range h.Events(p.Last)["Killing"] {
		if e.InvolvedObject.FieldPath == "spec.containers{"+pod.Container().Name+"}" {
			events = append(events, e)
		}
	}
	return events
}

// EventBudget is how many Warning Events of a pod the kubelet sends before it sends
// only one in five minutes.
const EventBudget = 25

// Unhealthy counts how often a probe ("Liveness", "Readiness", "Startup") of a pod
// failed, as far as Events show it ([EventBudget]). It does not count a probe that
// could not be run ("probe errored"). Use it only within Until and Look.
func (h *History) Unhealthy(p *PodHistory, probe string) (n int) {
	for _, e := range h.Events(p.Last)["Unhealthy"] {
		if strings.HasPrefix(e.Message, probe+" probe failed") {
			n += max(1, int(e.Count))
		}
	}
	return n
}

// Killed reports whether the kubelet ended a pod's Spark because of a probe. The
// Killing Event alone is also sent at a deletion. Use it only within Until and Look.
func (h *History) Killed(p *PodHistory) bool { return p != nil && p.Unasked && len(h.Killing(p)) > 0 }

// Warnings counts the Warning Events of a pod, each as often as it occurred. Use it
// only within Until and Look.
func (h *History) Warnings(pod *corev1.Pod) (n int) {
	for _, e := range h.events {
		if e.InvolvedObject.UID == pod.UID && e.Type == corev1.EventTypeWarning {
			n += max(1, int(e.Count))
		}
	}
	return n
}

// Started returns when Spark's container of a pod last began to run.
func (p *PodHistory) Started() time.Time {
	if status := p.sparks(); status != nil {
		switch state := status.State; {
		case state.Running != nil:
			return state.Running.StartedAt.Time
		case state.Terminated != nil:
			return state.Terminated.StartedAt.Time
		}
	}
	return time.Time{}
}

// Terminated returns how Spark's container of a pod ended, or nil.
func (p *PodHistory) Terminated() *corev1.ContainerStateTerminated {
	if status := p.sparks(); status != nil {
		return status.State.Terminated
	}
	return nil
}

// sparks returns the status of Spark's container, if there is one.
func (p *PodHistory) sparks() *corev1.ContainerStatus {
	if p == nil {
		return nil
	}
	pod, err := spark.PodOf(p.Last)
	if err != nil {
		return nil
	}
	return pod.ContainerStatus()
}
