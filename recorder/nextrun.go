package recorder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

const (
	// beginWithin is the age of a driver after which its executors are not planned any more:
	// most are there.
	beginWithin = 2 * time.Minute
	// carriedFor is how long a plan of an earlier run holds.
	carriedFor   = 6 * time.Hour
	beginWorkers = 4
)

// tellWebhook writes on a job what its next driver is to get, so that the webhook needs to
// watch only the metadata of such jobs.
func tellWebhook(object *unstructured.Unstructured, status *sparkjob.Status) {
	labels, annotated := object.GetLabels(), object.GetAnnotations()
	delete(labels, annotations.NextRun)
	delete(annotated, annotations.NextRun)
	if m := status.NextRun.Driver.Memory(); m != nil {
		if labels == nil {
			labels = map[string]string{}
		}
		if annotated == nil {
			annotated = map[string]string{}
		}
		labels[annotations.NextRun], annotated[annotations.NextRun] = string(spark.Driver), m.String()
	}
	object.SetLabels(labels)
	object.SetAnnotations(annotated)
}

// sawExecutor notes what Spark asks for executors of a job's run, and whether their rule
// lets the next run start with what this one needed. When the run ends their pods may be
// gone.
func (r *recorder) sawExecutor(executor spark.Pod, driver types.UID) {
	if r.jobs == nil || !r.recordsIn(executor.Namespace) {
		return
	}
	if found, ok := r.jobs.runs.Get(driver); ok {
		found.(*runKnown).notes(executor)
	}
}

// notes notes an executor, unless one is. Pods of other namespaces may name any driver.
func (k *runKnown) notes(executor spark.Pod) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.executors == nil && k.application == applicationName(executor) {
		k.executors = sparkjob.ExecutorsOf(executor)
	}
}

// applicationName returns what a driver and its executors have in common.
func applicationName(p spark.Pod) string { return p.Namespace + "/" + p.Application() }

// isOf notes the application of a run.
func (k *runKnown) isOf(driver spark.Pod) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.application = applicationName(driver)
}

// planNextRun notes what later executors of a driver that has ended would have got because
// of deaths: the next run of its job may get it. What the driver's UI said at any time
// counts, because the next run is judged by its own settings again. If it did not show its
// stages, they are taken for ordinary ones: the run has failed, and if the next one fails
// of something else, there is no later one with fewer cores.
func (r *recorder) planNextRun(driver spark.Pod, record *oom.Record, terms map[string]annotations.RemedyTerms, facts []fact) {
	if r.jobs == nil || sparkjob.NameOf(driver) == "" {
		return
	}
	maps.DeleteFunc(terms, func(_ string, t annotations.RemedyTerms) bool { return t.NextRun == "" })
	basis := r.knowledge.lastBasis(driver.UID)
	basis.barrier = cmp.Or(basis.barrier, new(bool))
	r.jobs.known(driver.UID).needs(remedy.Plans(record.Remedy, remedy.Application{
		Driver: driver, Record: record, Terms: terms, Executors: ranBefore(nil, facts), Settings: basis.settings, Barrier: basis.barrier,
	}))
	r.jobs.queue.AddAfter(keyOf(driver), settleWait)
}

// needs notes plans that came too late for a run. If the run is written already, it is
// written again.
func (k *runKnown) needs(plans []annotations.RemedyPlan) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.needed, k.written = plans, ""
}

// noted returns what was noted of executors, and plans that came too late for them.
func (k *runKnown) noted() (*sparkjob.Executors, []annotations.RemedyPlan) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.executors, k.needed
}

// sawBegin has the executors of a new driver planned, once, if it is one of a job.
func (r *recorder) sawBegin(driver spark.Pod) {
	known := r.jobs.known(driver.UID)
	if r.now().Sub(driver.CreationTimestamp.Time) > beginWithin || !known.begins() {
		return
	}
	r.jobs.beginning.AddAfter(keyOf(driver), r.replicas.delay())
}

// begins reports whether a run was not seen before.
func (k *runKnown) begins() bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	first := !k.begun
	k.begun = true
	return first
}

// beginRuns works until the queue is shut down.
func (r *recorder) beginRuns(ctx context.Context) {
	for {
		next, shutdown := r.jobs.beginning.Get()
		if shutdown {
			return
		}
		var err error
		r.safely(func() { err = r.begin(ctx, next) })
		switch {
		case err == nil, ctx.Err() != nil:
			r.jobs.beginning.Forget(next)
		case r.jobs.beginning.NumRequeues(next) < maxFailures:
			r.jobs.beginning.AddRateLimited(next)
		default: // its executors are as Spark asks
			r.failed("job", err, "namespace", next.Namespace, "driver", next.Name)
			r.jobs.beginning.Forget(next)
		}
		r.jobs.beginning.Done(next)
	}
}

// begin writes on a new driver the plan with which its executors start, if an earlier run
// of its job needed one. An error means that it may succeed a little later.
func (r *recorder) begin(ctx context.Context, of run) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	driver := r.beginning(of)
	if driver.Pod == nil || r.jobs.isAbsent(r.now()) {
		return nil
	}
	mode := annotations.Mode(driver.Annotations[annotations.RemedyMode])
	job, err := r.jobOf(ctx, driver)
	if err != nil {
		return err
	}
	plan, ok := job.NextRun.Executor.Plan(driver.Application(), driver.CreationTimestamp.Add(carriedFor))
	if !ok {
		return nil
	}
	if mode == annotations.Audit {
		plan.Mode = annotations.Audit
	}
	settings, err := r.settingsIn(ctx, driver)
	if err != nil {
		return err
	}
	heap := job.ExecutorHeapMiB()
	if settings != nil && heap > 0 && settings.Executor.Heap != heap {
		return nil // the user has changed it
	}
	if plan = remedy.Carry(plan, driver, settings); !plan.Changes() {
		return nil
	}
	return r.changePlans(ctx, driver, func(w *result) {
		if len(w.record.Remedy) == 0 {
			w.record.Remedy = []annotations.RemedyPlan{plan}
		}
	})
}

// jobOf returns what is known of a driver's job.
func (r *recorder) jobOf(ctx context.Context, driver spark.Pod) (none sparkjob.Status, err error) {
	name := r.jobs.known(driver.UID).nameOf(driver)
	object, err := r.jobs.Client.Resource(sparkjob.Resource).Namespace(driver.Namespace).Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"}) // from the API server's cache
	switch {
	case apierrors.IsNotFound(err): // the first run of a job, or nobody knows SparkJobs
		return none, nil
	case err != nil:
		return none, fmt.Errorf("reading the SparkJob %s/%s: %w", driver.Namespace, name, err)
	}
	return r.statusOf(object), nil
}

// settingsIn returns the settings in the ConfigMap of a driver, or nil if the recorder does
// not read ConfigMaps, or there are none. spark-submit creates it after the driver's pod, so
// there is an error if it does not exist yet.
func (r *recorder) settingsIn(ctx context.Context, driver spark.Pod) (*spark.Settings, error) {
	if !r.ReadConfigMaps {
		return nil, nil //nolint:nilnil // not known
	}
	properties, err := r.propertiesOf(ctx, driver)
	switch {
	case err != nil, driver.ConfigMap() == "":
		return nil, err
	case properties == nil:
		return nil, errors.New("the ConfigMap has no " + spark.PropertiesFile)
	}
	return spark.PropertiesSettings(*properties), nil
}

// beginning returns a driver that may get a plan, or none.
func (r *recorder) beginning(of run) (none spark.Pod) {
	p := r.podOf(of.NamespacedName)
	if p == nil || p.UID != of.uid {
		return none
	}
	driver, err := spark.PodOf(p)
	if err != nil {
		return none
	}
	_, ended := driver.End()
	if ended || len(plansOf(driver)) > 0 || driver.Annotations[annotations.RemedyMode] == string(annotations.Disabled) {
		return none
	}
	return driver
}
