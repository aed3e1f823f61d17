package job

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
)

// Queue is a queue of pods.
type Queue = workqueue.TypedRateLimitingInterface[Key]

// Watch calls exists for each pod when it is listed, created or changed, and gone with
// the last known state of each pod that is gone. unknown is true if its end was not
// seen: the watch broke, and the list after it did not have the pod, or had another one
// of its name.
func Watch(exists func(*corev1.Pod, Queue), gone func(pod *corev1.Pod, unknown bool, q Queue)) handler.TypedEventHandler[*corev1.Pod, Key] {
	return handler.TypedFuncs[*corev1.Pod, Key]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*corev1.Pod], q Queue) { exists(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*corev1.Pod], q Queue) {
			if e.ObjectOld.UID != e.ObjectNew.UID {
				gone(e.ObjectOld, true, q)
			}
			exists(e.ObjectNew, q)
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*corev1.Pod], q Queue) {
			gone(e.Object, e.DeleteStateUnknown, q)
		},
	}
}

// Handler does the same for an informer of pods.
func Handler(exists func(*corev1.Pod), gone func(pod *corev1.Pod, unknown bool)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { exists(object.(*corev1.Pod)) },
		UpdateFunc: func(before, now any) {
			if was, is := before.(*corev1.Pod), now.(*corev1.Pod); was.UID != is.UID {
				gone(was, true)
			}
			exists(now.(*corev1.Pod))
		},
		DeleteFunc: func(object any) {
			last, unknown := object.(toolscache.DeletedFinalStateUnknown)
			if unknown {
				object = last.Obj
			}
			gone(object.(*corev1.Pod), unknown)
		},
	}
}
