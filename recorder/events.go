package recorder

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Controller is the controller that the recorder's Events name as the one that reports.
const Controller = "spark-vitals.io/recorder"

const (
	// oldest is the age of a death that is no longer reported. Events live as long.
	oldest = time.Hour
	// maxNote is the API server's limit for an Event's note.
	maxNote = 1024
	// ownEvents is how many deaths of an application have their own Event. All others
	// have one Event per pause, as a kubelet does it for an object. Nobody reads more.
	ownEvents, eventsPause = 10, 5 * time.Minute
	// followWait is how long other replicas wait for the one that wrote a death to
	// create its Event. Then they create it if that replica ended before.
	followWait = 2 * time.Second
)

// deathEvent is one Event that must be created.
type deathEvent struct {
	*eventsv1.Event
	at          time.Time        // of the death
	termination *oom.Termination // nil for an Event about a plan
	pod         *corev1.Pod      // that died
	driver      string           // "" without one
	counts      bool             // the replica that creates this Event counts the death
	follows     bool             // another replica creates this Event, unless it ended before
	deaths      int              // of the application, if they have no Event each
	ambiguous   bool             // an attempt may have succeeded without an answer
}

// reportOn reports deaths that are written on their driver, or cannot be.
func (r *recorder) reportOn(driver spark.Pod, record *oom.Record, facts []fact, stand bool) {
	deaths := 0
	for _, d := range record.Deaths {
		deaths += d.Count
	}
	before := deaths - len(facts)
	for i, f := range facts {
		t := deathEvent{driver: driver.Name}
		if last := f.Role == spark.Driver && f.IsSparks() && !driver.Restarts(); before+i >= ownEvents && !last {
			t.deaths = deaths
		}
		t.follows = stand && !r.replicas.hasWritten(driver.UID, &f.Termination)
		text := record.Explain(&f.Termination, driver)
		for _, owner := range sparkApplications(driver.Pod) {
			r.event(owner, f, text, t)
		}
		// A death without its own Event is counted by the replica that wrote it. A death
		// that cannot be written is counted by each.
		t.counts = t.deaths == 0 || !stand || record.Unknowable(&f.Termination) || r.replicas.hasWritten(driver.UID, &f.Termination)
		r.event(reference(driver.Pod), f, text, t)
	}
}

// reportWithoutDriver reports a death if its driver is gone or is not a Spark pod. The
// Event is on the executor's owner.
func (r *recorder) reportWithoutDriver(f fact) {
	about := reference(f.pod)
	if owner := metav1.GetControllerOf(f.pod); f.Role == spark.Executor && owner != nil {
		about = corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: f.pod.Namespace, Name: owner.Name, UID: owner.UID}
	}
	pod, err := spark.PodOf(f.pod)
	if err != nil {
		return
	}
	var record oom.Record
	record.Add(f.Termination)
	r.event(about, f, record.Explain(&f.Termination, pod), deathEvent{counts: true})
}

// event queues an Event about an object, unless this replica created it or is about to.
// Its name follows from what happened, so only one of all replicas creates it.
func (r *recorder) event(about corev1.ObjectReference, f fact, note string, t deathEvent) {
	name := eventName(about, f.pod, &f.Termination)
	if _, known := r.queued.Get(name); known {
		return
	}
	r.queued.Add(name, struct{}{})
	if t.deaths > 0 {
		name = manyName(about, &f.Termination)
		note = fmt.Sprintf("%d deaths of this application so far. After the first %d there is one Event in %s. One of the last: %s", t.deaths, ownEvents, eventsPause, note)
	}
	related := reference(f.pod)
	t.termination, t.at, t.pod = &f.Termination, f.At.Time, f.pod
	t.Event = r.newEvent(about, name, reason(&f.Termination), note, corev1.EventTypeWarning)
	t.Related = &related
	if t.deaths > 0 {
		if t.counts {
			r.count(&t)
		}
		if _, known := r.queued.Get(name); known {
			return
		}
		t.counts = false
		r.queued.Add(name, struct{}{})
	}
	r.pending.Add(1)
	if t.follows && !r.ending.Load() {
		r.events.AddAfter(&t, r.followWait)
		return
	}
	r.events.Add(&t)
}

func (r *recorder) newEvent(about corev1.ObjectReference, name, reason, note, kind string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: about.Namespace, Name: name},
		EventTime:           metav1.NewMicroTime(r.now()),
		ReportingController: Controller,
		ReportingInstance:   r.instance,
		Action:              "Record",
		Reason:              reason,
		Regarding:           about,
		Note:                bounded.Cut(note, maxNote),
		Type:                kind,
	}
}

// createEvents works until the queue is shut down. Events have their own queue, so no
// record waits for them.
func (r *recorder) createEvents(ctx context.Context) {
	for {
		t, shutdown := r.events.Get()
		if shutdown {
			return
		}
		if err := r.create(ctx, t); err != nil {
			r.failed("event", err, "namespace", t.Namespace, "about", t.Regarding.Name, "death", t.Note)
			r.events.AddRateLimited(t)
		} else {
			r.events.Forget(t)
			r.pending.Add(-1)
		}
		r.events.Done(t)
	}
}

// create creates the Event of a death, and counts the death if no replica has. An error
// means that it may succeed later.
func (r *recorder) create(ctx context.Context, t *deathEvent) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if t.follows {
		if exists, err := r.exists(ctx, t); exists || err != nil {
			return err
		}
		t.follows = false
	}
	begun := r.now()
	_, err := r.Client.EventsV1().Events(t.Namespace).Create(ctx, t.Event, metav1.CreateOptions{FieldManager: fieldManager})
	// If an error comes with Retry-After, in whole seconds, client-go calls again by
	// itself.
	t.ambiguous = t.ambiguous || r.now().Sub(begun) >= time.Second
	switch {
	case err == nil:
	case apierrors.IsAlreadyExists(err):
		ours, err := t.ambiguous && t.counts, error(nil)
		if ours {
			ours, err = r.created(ctx, t)
		}
		if !ours {
			return err
		}
	case !final(err) && r.now().Sub(t.at) < oldest:
		t.ambiguous = true
		return err
	case mayBeStarting(err) && r.events.NumRequeues(t) < maxFailures:
		return err
	default: // refused for good; the death is still counted and logged
		r.failed("event", err, "namespace", t.Namespace, "about", t.Regarding.Name)
	}
	if !t.counts {
		return nil
	}
	if t.driver == "" {
		r.metrics.withoutDriver.WithLabelValues(t.pod.Namespace).Inc()
	}
	r.count(t)
	return nil
}

// exists reports whether the Event exists. If it cannot be read, the attempt to create
// it decides.
func (r *recorder) exists(ctx context.Context, t *deathEvent) (bool, error) {
	_, err := r.Client.EventsV1().Events(t.Namespace).Get(ctx, t.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return false, nil
	}
	return err == nil, err
}

// created reports whether this replica created the Event.
func (r *recorder) created(ctx context.Context, t *deathEvent) (bool, error) {
	list, err := r.Client.CoreV1().Events(t.Namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", t.Name).String()})
	if err != nil {
		return false, err
	}
	return len(list.Items) > 0 && list.Items[0].ReportingInstance == r.instance, nil
}

// count counts a death and writes it as one line of the log.
func (r *recorder) count(e *deathEvent) {
	t, pod := e.termination, e.pod
	r.metrics.deaths.WithLabelValues(pod.Namespace, string(t.Role), string(t.Cause)).Inc()
	attributes := []any{
		"namespace", pod.Namespace, "application", pod.Labels[spark.ApplicationLabel], "driver", e.driver, "pod", t.Pod, "uid", pod.UID, "role", t.Role,
		"container", t.Container, "cause", t.Cause, "at", t.At.UTC().Format(time.RFC3339), "limitMiB", t.LimitMiB, "heapMiB", t.HeapMiB, "heapEstimated", t.Estimated, "message", e.Note,
	}
	if t.ExitCode != nil {
		attributes = append(attributes, "exitCode", *t.ExitCode)
	}
	r.Log.Info("death", attributes...)
}

func reason(t *oom.Termination) string {
	role := string(t.Role)
	if !t.IsSparks() {
		role = "sidecar"
	}
	return strings.ToUpper(role[:1]) + role[1:] + string(t.Cause)
}

func eventName(about corev1.ObjectReference, pod *corev1.Pod, t *oom.Termination) string {
	return nameOf(about, pod.UID, t.Set, t.Number, t.Cause)
}

// manyName returns the name of the one Event about an object in eventsPause.
func manyName(about corev1.ObjectReference, t *oom.Termination) string {
	return nameOf(about, "many", t.At.Truncate(eventsPause).Unix())
}

// nameOf returns the name of an Event about an object. It follows from what happened.
func nameOf(about corev1.ObjectReference, what ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, append([]any{about.UID}, what...)...))
	return fmt.Sprintf("%.200s.%x", about.Name, sum[:8])
}

func reference(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// sparkApplications returns the SparkApplications that own a driver, of any operator.
func sparkApplications(driver *corev1.Pod) (all []corev1.ObjectReference) {
	for _, o := range driver.OwnerReferences {
		if o.Kind == "SparkApplication" {
			all = append(all, corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: driver.Namespace, Name: o.Name, UID: o.UID})
		}
	}
	return all
}

// killings returns the Events by which a kubelet reported that it stopped containers.
// They are Normal Events with a rate limit of their own, so they arrive. An error means
// that the API server may return them later.
func (r *recorder) killings(ctx context.Context, doubtful []*fact) (found []corev1.Event, err error) {
	if len(doubtful) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	one := doubtful[0].pod
	selector := fields.Set{"reason": "Killing", "involvedObject.kind": "Pod"}
	if !slices.ContainsFunc(doubtful, func(f *fact) bool { return f.pod.UID != one.UID }) {
		selector["involvedObject.uid"] = string(one.UID)
	}
	events := r.Client.CoreV1().Events(one.Namespace)
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return events.List(ctx, options)
	}
	_, err = paged.Each(ctx, metav1.ListOptions{FieldSelector: selector.String()}, list, func(o runtime.Object) error {
		if e := o.(*corev1.Event); slices.ContainsFunc(doubtful, func(f *fact) bool { return f.pod.UID == e.InvolvedObject.UID }) && len(found) < maxKillings {
			found = append(found, corev1.Event{
				InvolvedObject: corev1.ObjectReference{UID: e.InvolvedObject.UID, FieldPath: bounded.Text(e.InvolvedObject.FieldPath)},
				LastTimestamp:  e.LastTimestamp,
			})
		}
		return nil
	})
	if err != nil {
		r.failed("killing", err, "namespace", one.Namespace, "pod", one.Name)
		return nil, err
	}
	return found, nil
}

// maxKillings is how many Events are read. A kubelet reports each container's end
// once.
const maxKillings = 10000

// provenBy reports whether an Event proves the fact: it is about Spark's container, and
// from just before its end. An Event about an earlier run of a container that restarts
// in place is older.
func (f fact) provenBy(e corev1.Event) bool {
	pod, err := spark.PodOf(f.pod)
	if err != nil || e.InvolvedObject.UID != pod.UID || e.InvolvedObject.FieldPath != "spec.containers{"+pod.Container().Name+"}" {
		return false
	}
	grace := 30 * time.Second
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	early := f.At.Sub(e.LastTimestamp.Time)
	return early >= -time.Second && early <= grace+time.Minute
}

func (r *recorder) failed(call string, err error, attributes ...any) {
	r.metrics.errors.WithLabelValues(call).Inc()
	r.Log.Warn("a call to the API server failed", append(attributes, "call", call, "error", err)...)
}
