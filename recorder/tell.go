package recorder

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	controller = "spark-vitals.io/recorder"
	// Events live an hour. Older deaths without a driver are not told again:
	// nothing else would say that they have been.
	oldest = time.Hour
	// The API server's limit for an Event's note.
	maxNote = 1024
)

// tell of deaths that now stand on their driver.
func (r *recorder) tell(ctx context.Context, driver spark.Pod, record *oom.Record, facts []fact, news []oom.Termination) {
	r.metrics.writes.WithLabelValues("written").Inc()
	for i := range news {
		t := &news[i]
		r.metrics.lag.Observe(r.now().Sub(t.At.Time).Seconds())
		pod := driver.Pod
		for _, f := range facts {
			if f.Set == t.Set && f.Number == t.Number {
				pod = f.pod
			}
		}
		if !r.first(reference(driver.Pod), pod, t) {
			continue
		}
		text := record.Advice(t, driver)
		for _, owner := range sparkApplications(driver.Pod) {
			r.event(ctx, owner, pod, t, text)
		}
		// It was told before where the driver has no room for the record.
		if r.event(ctx, reference(driver.Pod), pod, t, text) {
			r.count(t, pod, driver.Name, text)
		}
	}
}

// tellWithoutDriver of a death whose driver is gone, or is no pod of Spark's:
// on the executor's owner, once.
func (r *recorder) tellWithoutDriver(ctx context.Context, f fact) {
	if r.now().Sub(f.At.Time) > oldest {
		return
	}
	about := reference(f.pod)
	if owner := metav1.GetControllerOf(f.pod); f.Role == spark.Executor && owner != nil {
		about = corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: f.pod.Namespace, Name: owner.Name, UID: owner.UID}
	}
	pod, err := spark.PodOf(f.pod)
	if err != nil || !r.first(about, f.pod, &f.Termination) {
		return
	}
	var record oom.Record
	record.Add(f.Termination)
	text := record.Advice(&f.Termination, pod)
	if fresh := r.event(ctx, about, f.pod, &f.Termination, text); fresh {
		r.metrics.withoutDriver.WithLabelValues(f.pod.Namespace).Inc()
		r.count(&f.Termination, f.pod, "", text)
	}
}

// first tells whether this replica has not told of it yet.
func (r *recorder) first(about corev1.ObjectReference, pod *corev1.Pod, t *oom.Termination) bool {
	name := eventName(about, pod, t)
	_, told := r.told.Get(name)
	r.told.Add(name, struct{}{})
	return !told
}

// count a death and write it as one line of the log.
func (r *recorder) count(t *oom.Termination, pod *corev1.Pod, driver, text string) {
	r.metrics.deaths.WithLabelValues(pod.Namespace, string(t.Role), string(t.Cause)).Inc()
	attributes := []any{
		"namespace", pod.Namespace, "application", pod.Labels[spark.ApplicationLabel], "driver", driver, "pod", t.Pod, "uid", pod.UID, "role", t.Role,
		"container", t.Container, "cause", t.Cause, "at", t.At.UTC().Format(time.RFC3339), "limitMiB", t.LimitMiB, "heapMiB", t.HeapMiB, "heapEstimated", t.Estimated, "message", text,
	}
	if t.ExitCode != nil {
		attributes = append(attributes, "exitCode", *t.ExitCode)
	}
	r.Log.Info("death", attributes...)
}

// event about an object. Its name follows from what happened, so that nobody
// tells it twice: fresh is false where it was told before.
func (r *recorder) event(ctx context.Context, about corev1.ObjectReference, pod *corev1.Pod, t *oom.Termination, note string) (fresh bool) {
	related := reference(pod)
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: about.Namespace, Name: eventName(about, pod, t)},
		EventTime:           metav1.NewMicroTime(r.now()),
		ReportingController: controller,
		ReportingInstance:   r.instance,
		Action:              "Record",
		Reason:              reason(t),
		Regarding:           about,
		Related:             &related,
		Note:                note[:min(len(note), maxNote)],
		Type:                corev1.EventTypeWarning,
	}
	tried := 0
	err := retry.OnError(eventRetries, passes, func() error {
		tried++
		_, err := r.Client.EventsV1().Events(about.Namespace).Create(ctx, event, metav1.CreateOptions{FieldManager: fieldManager})
		return err
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		r.failed("event", err, "namespace", about.Namespace, "about", about.Name)
	}
	return !apierrors.IsAlreadyExists(err) || tried > 1 // then it may be our own, made by a call that seemed to fail
}

// eventRetries are few: the record is written, and the next one waits.
var eventRetries = wait.Backoff{Steps: 4, Duration: 50 * time.Millisecond, Factor: 3, Jitter: .5}

// passes tells whether the same call may succeed a moment later.
func passes(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) || utilnet.IsConnectionRefused(err)
}

func reason(t *oom.Termination) string {
	role := string(t.Role)
	if !t.IsSparks() {
		role = "sidecar"
	}
	return strings.ToUpper(role[:1]) + role[1:] + string(t.Cause)
}

func eventName(about corev1.ObjectReference, pod *corev1.Pod, t *oom.Termination) string {
	sum := sha256.Sum256(fmt.Append(nil, about.UID, pod.UID, t.Set, t.Number, t.Cause))
	return fmt.Sprintf("%.200s.%x", about.Name, sum[:8])
}

func reference(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// sparkApplications that own a driver, of whichever operator.
func sparkApplications(driver *corev1.Pod) (all []corev1.ObjectReference) {
	for _, o := range driver.OwnerReferences {
		if o.Kind == "SparkApplication" {
			all = append(all, corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: driver.Namespace, Name: o.Name, UID: o.UID})
		}
	}
	return all
}

// killing tells whether the kubelet told of stopping the container: by a Normal
// Event that has a budget of its own, so it comes through.
func (r *recorder) killing(ctx context.Context, f fact) bool {
	list, err := r.Client.CoreV1().Events(f.pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(f.pod.UID), "reason": "Killing"}.String(),
	})
	if err != nil {
		r.failed("killing", err, "namespace", f.pod.Namespace, "pod", f.pod.Name)
		return false
	}
	grace := 30 * time.Second
	if seconds := f.pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	for _, e := range list.Items {
		// Of an earlier run of a container that restarts in place it would be older.
		if f.At.Sub(e.LastTimestamp.Time) <= grace+time.Minute {
			return true
		}
	}
	return false
}

func (r *recorder) failed(call string, err error, attributes ...any) {
	r.metrics.errors.WithLabelValues(call).Inc()
	r.Log.Warn("a call of the API server failed", append(attributes, "call", call, "error", err)...)
}
