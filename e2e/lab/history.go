package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/spark"
)

// History is all that was seen of the pods and Events of a namespace.
type History struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
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
	Ready   []time.Time // when its readiness changed
}

// Watch begins to watch a namespace, until the context ends.
func (l *Lab) Watch(ctx context.Context, namespace string) (*History, error) {
	client, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return nil, err
	}
	h := &History{changed: make(chan struct{}), pods: map[types.UID]*PodHistory{}, events: map[types.UID]*Event{}}
	pods, err := client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	events, err := client.CoreV1().Events(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	go h.follow(pods)
	go h.follow(events)
	return h, nil
}

func (h *History) follow(w watch.Interface) {
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
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
	}
}

func (h *History) sawPod(change watch.EventType, pod *corev1.Pod) {
	p := h.pods[pod.UID]
	if p == nil {
		p = &PodHistory{}
		h.pods[pod.UID] = p
	}
	if change == watch.Modified {
		p.Writes++
	}
	if p.Last != nil && p.IsReady() != isReady(pod) {
		p.Ready = append(p.Ready, time.Now())
	}
	p.Last, p.Deleted = pod, change == watch.Deleted
}

// IsReady tells whether the pod was Ready when it was last seen.
func (p *PodHistory) IsReady() bool { return isReady(p.Last) }

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Until waits until something holds of what was seen so far.
func (h *History) Until(ctx context.Context, what string, holds func(*History) bool) error {
	for {
		h.mu.Lock()
		changed, ok := h.changed, holds(h)
		h.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
}

// Look calls a function while nothing changes.
func (h *History) Look(f func(*History)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Pods of a role, in the order of their creation. Only within Until and Look.
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

// Driver is the only driver; nil where there is none yet. Only within Until and Look.
func (h *History) Driver() *PodHistory {
	if drivers := h.Pods(spark.Driver); len(drivers) > 0 {
		return drivers[0]
	}
	return nil
}

// Events of a pod, by reason. Only within Until and Look.
func (h *History) Events(pod *corev1.Pod) map[string][]*Event {
	byReason := map[string][]*Event{}
	for _, e := range h.events {
		if e.InvolvedObject.UID == pod.UID {
			byReason[e.Reason] = append(byReason[e.Reason], e)
		}
	}
	return byReason
}

// Warnings counts the Warning Events of a pod, each as often as it occurred.
// Only within Until and Look.
func (h *History) Warnings(pod *corev1.Pod) (n int) {
	for _, e := range h.events {
		if e.InvolvedObject.UID == pod.UID && e.Type == corev1.EventTypeWarning {
			n += max(1, int(e.Count))
		}
	}
	return n
}

// Terminated is how Spark's container of a pod ended, nil while it has not.
func (p *PodHistory) Terminated() *corev1.ContainerStateTerminated {
	if p == nil {
		return nil
	}
	pod, err := spark.PodOf(p.Last)
	if err != nil {
		return nil
	}
	for _, status := range p.Last.Status.ContainerStatuses {
		if status.Name == pod.Container().Name {
			return status.State.Terminated
		}
	}
	return nil
}
