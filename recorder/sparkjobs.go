package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// addRun adds a run to its job. It writes nothing if the job has all of it, or if the run
// only goes on and was written a short time ago. A conflict is tried again at once.
func (r *recorder) addRun(ctx context.Context, namespace, name string, seen sparkjob.Run) error {
	client := r.jobs.Client.Resource(sparkjob.Resource).Namespace(namespace)
	read := metav1.GetOptions{ResourceVersion: "0"} // from the API server's cache
	for range attempts {
		object, err := client.Get(ctx, name, read)
		read.ResourceVersion = "" // what the cache had was too old
		if r.jobs.lacks(err) {
			return r.saysAbsent()
		}
		exists := !apierrors.IsNotFound(err)
		if !exists {
			object, err = newJob(name), nil
		}
		if err != nil {
			return fmt.Errorf("reading the SparkJob %s/%s: %w", namespace, name, err)
		}
		status := r.statusOf(object)
		before := status
		if !r.changes(&status, seen, namespace) {
			return nil
		}
		if !exists && !r.jobs.mayCreate(namespace, r.now()) {
			return errTooManyJobs
		}
		if err = writeJob(ctx, client, object, &status, exists); err == nil {
			r.countRuns(namespace, &before, &status)
			return nil
		}
		switch {
		case r.jobs.lacks(err):
			return r.saysAbsent()
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), exists && apierrors.IsNotFound(err): // others write it too
			time.Sleep(rand.N(firstRetry))
		default:
			return fmt.Errorf("writing the SparkJob %s/%s: %w", namespace, name, err)
		}
	}
	return fmt.Errorf("writing the SparkJob %s/%s: others changed it %d times in the meantime", namespace, name, attempts)
}

var errTooManyJobs = fmt.Errorf("the namespace got %d new SparkJobs in a short time; one more is created each minute", newJobsEach)

func newJob(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(sparkjob.Resource.GroupVersion().WithKind(sparkjob.Kind))
	u.SetName(name)
	return u
}

// statusOf reads the status of a job. One that cannot be read is started again.
func (r *recorder) statusOf(object *unstructured.Unstructured) (status sparkjob.Status) {
	status, err := sparkjob.Read(object.Object)
	if err != nil {
		r.Log.Warn("a SparkJob cannot be read, and is started again", "namespace", object.GetNamespace(), "job", object.GetName(), "error", err)
	}
	return status
}

// changes adds a run to a status, and reports whether that is to be written.
func (r *recorder) changes(status *sparkjob.Status, seen sparkjob.Run, namespace string) bool {
	before := status.Run(&seen)
	goesOn, age := before != nil && before.State == seen.State && seen.State == sparkjob.Running, time.Duration(0)
	if goesOn {
		age = r.now().Sub(before.Seen.Time)
	}
	stale := age > r.jobs.Keep/4 // it would be forgotten
	if !status.Add(seen, r.jobs.Runs) && !stale || goesOn && age < gapOfWrites {
		return false
	}
	mayBeAlive := r.mayBeAlive(namespace)
	status.Lose(func(of *sparkjob.Run) bool { return of.UID == seen.UID || mayBeAlive(of) }, r.jobs.Runs)
	status.Saw(&seen, r.now())
	return true
}

// mayBeAlive returns whether the driver of a run in a namespace may still exist.
func (r *recorder) mayBeAlive(namespace string) func(*sparkjob.Run) bool {
	return func(of *sparkjob.Run) bool {
		if r.now().Sub(of.Began.Time) < unseenAfter || r.pods.at(namespace) == nil || !r.listed(namespace) {
			return true
		}
		p, _ := r.driverOf(run{types.NamespacedName{Namespace: namespace, Name: of.Driver}, of.UID})
		return p != nil
	}
}

// writeJob creates a job, or updates it.
func writeJob(ctx context.Context, client dynamic.ResourceInterface, object *unstructured.Unstructured, status *sparkjob.Status, exists bool) (err error) {
	text, _ := json.Marshal(status) // plain data: it cannot fail
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	object.Object["status"] = fields
	tellWebhook(object, status)
	if exists {
		_, err = client.Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	} else {
		_, err = client.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	}
	return err
}

// lacks reports whether an answer says that the API server does not know SparkJobs.
func (j *jobs) lacks(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// saysAbsent says once that there are no SparkJobs. It is no error: all else works.
func (r *recorder) saysAbsent() error {
	now := r.now()
	r.jobs.absent.Store(&now)
	r.jobs.once.Do(func() {
		r.Log.Warn("the API server does not know SparkJobs, so runs are not kept; install their CustomResourceDefinition, or turn off --spark-jobs")
	})
	return nil
}

// isAbsent reports whether the API server did not know SparkJobs a short time ago.
func (j *jobs) isAbsent(now time.Time) bool {
	at := j.absent.Load()
	return at != nil && now.Sub(*at) < absentWait
}

// mostForgotten is how many jobs are deleted at a time, and pageOfJobs how many are in
// memory.
const mostForgotten, pageOfJobs = 1000, 50

// forgetJobs deletes the jobs that were not used for long. Both replicas do. A job that
// is used in the meantime stays, because it has another version then.
func (r *recorder) forgetJobs(ctx context.Context) {
	namespaces := r.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		client := r.jobs.Client.Resource(sparkjob.Resource).Namespace(namespace)
		list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.Limit = min(o.Limit, pageOfJobs)
			return client.List(ctx, o)
		}
		var all []*unstructured.Unstructured
		_, err := paged.Each(ctx, metav1.ListOptions{}, list, func(o runtime.Object) error {
			object := o.(*unstructured.Unstructured)
			if len(all) < mostForgotten && r.isUnused(ctx, object) {
				all = append(all, nameOnly(object))
			}
			return nil
		})
		if err != nil && !r.jobs.lacks(err) {
			r.failedJob(ctx, err, namespace)
		}
		for _, object := range all {
			r.forgetJob(ctx, object)
		}
	}
}

func (r *recorder) failedJob(ctx context.Context, err error, namespace string) {
	if ctx.Err() == nil {
		r.failed("job", err, "namespace", namespace)
	}
}

// nameOnly returns what identifies an object.
func nameOnly(object *unstructured.Unstructured) *unstructured.Unstructured {
	u := newJob(object.GetName())
	u.SetNamespace(object.GetNamespace())
	u.SetUID(object.GetUID())
	u.SetResourceVersion(object.GetResourceVersion())
	return u
}

// isUnused reports whether a job was not used for long, and no driver of it may still run.
// Runs whose driver is gone end then: nothing else may ever write the job.
func (r *recorder) isUnused(ctx context.Context, object *unstructured.Unstructured) bool {
	namespace := object.GetNamespace()
	status, err := sparkjob.Read(object.Object)
	if err != nil || !r.recordsIn(namespace) { // it is started again when it is used
		return false
	}
	runs := func() int {
		return len(slices.DeleteFunc(slices.Clone(status.Runs), func(of sparkjob.Run) bool { return of.State != sparkjob.Running }))
	}
	if n := runs(); n > 0 {
		before := status
		if status.Lose(r.mayBeAlive(namespace), r.jobs.Runs); runs() == n {
			return false
		}
		err := writeJob(ctx, r.jobs.Client.Resource(sparkjob.Resource).Namespace(namespace), object, &status, true)
		if err == nil {
			r.countRuns(namespace, &before, &status)
		}
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			r.failedJob(ctx, err, namespace)
		}
		return false
	}
	used := status.LastUsed()
	if created := object.GetCreationTimestamp(); used.Before(&created) {
		used = created
	}
	return r.now().Sub(used.Time) >= r.jobs.Keep
}

// forgetJob deletes a job, unless it was changed. One that cannot be deleted stays.
func (r *recorder) forgetJob(ctx context.Context, object *unstructured.Unstructured) {
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := r.jobs.Client.Resource(sparkjob.Resource).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		r.failedJob(ctx, err, object.GetNamespace())
	}
}
