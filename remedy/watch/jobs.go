package watch

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// jobs are the SparkJobs whose next driver is to get more memory.
type jobs struct {
	informer cache.SharedIndexInformer
	failing  atomic.Bool
	given    *lru.Cache // by namespace/job, the last driver that got more memory (gift)
	withheld prometheus.Counter
	awaited  *lru.Cache // by namespace/name of such a driver, the namespace/job
}

// gift is a driver that got more memory when it was about to be created.
type gift struct {
	pod string // namespace/name
	at  time.Time
}

const (
	// arrives is how long it takes at most until the watch shows a driver that the API server
	// created.
	arrives = 10 * time.Second
	// withheld is for how long a job's drivers get nothing if one with more memory was not
	// created. An application must not fail each night because of a quota.
	withheld = 7 * 24 * time.Hour
	maxGifts = 4096
)

func newJobs(client metadata.Interface, log *slog.Logger, registry prometheus.Registerer) *jobs {
	j := &jobs{given: lru.New(maxGifts), awaited: lru.New(maxGifts)}
	errs := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_job_watch_errors_total", Help: "Failed calls to list or watch SparkJobs. Until one succeeds, no driver gets more memory.",
	})
	called := func(err error) {
		if j.failing.Store(err != nil); err != nil {
			errs.Inc()
			log.Warn("SparkJobs cannot be watched, so no driver gets more memory", "error", err)
		}
	}
	j.withheld = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_withheld_drivers_total", Help: "Drivers that got no more memory although an earlier run needed it, because an earlier driver with more memory was not created.",
	})
	all := listWatch(client.Resource(sparkjob.Resource), metav1.ListOptions{LabelSelector: annotations.NextRun}, called)
	j.informer = cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(paged.ListWatch(all, stripJob), client), &metav1.PartialObjectMetadata{}, 0, cache.Indexers{})
	registry.MustRegister(errs, j.withheld)
	return j
}

// stripJob keeps of a SparkJob what its next driver is to get.
func stripJob(object any) (any, error) {
	job, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	kept := &metav1.PartialObjectMetadata{
		TypeMeta:   job.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: job.Name, Namespace: job.Namespace, UID: job.UID, ResourceVersion: job.ResourceVersion},
	}
	if m := annotations.ReadNextRunMemory(job.Annotations[annotations.NextRun]); m != nil {
		kept.Annotations = map[string]string{annotations.NextRun: m.String()}
	}
	return kept, nil
}

// MemoryOf returns the memory that a driver is to get when it is created in a namespace,
// because the one of an earlier run died of memory; or nil. why is why it gets nothing
// although an earlier run needed it, or "".
func (d *Drivers) MemoryOf(driver spark.Pod, namespace string) (m *annotations.RemedyMemory, why string) {
	job := sparkjob.NameOf(driver)
	switch {
	case job == "":
		return nil, ""
	case d.jobs == nil:
		return nil, "the webhook does not watch SparkJobs"
	case !d.jobs.informer.HasSynced():
		return nil, "the webhook does not know all SparkJobs yet"
	case d.jobs.failing.Load():
		return nil, "the webhook cannot watch SparkJobs now"
	case d.Unknown() != "": // it would not see the driver come
		return nil, d.Unknown()
	}
	key := namespace + "/" + job
	found, exists, err := d.jobs.informer.GetStore().GetByKey(key)
	if err != nil || !exists {
		return nil, ""
	}
	m = annotations.ReadNextRunMemory(found.(*metav1.PartialObjectMetadata).Annotations[annotations.NextRun])
	if m != nil && d.isWithheld(key) {
		d.jobs.withheld.Inc()
		return nil, "a driver of this job was not created with more memory, perhaps because a quota, a LimitRange or another policy refused it, or another pod had its name"
	}
	return m, ""
}

// Gave notes that a driver got more memory and is about to be created.
func (d *Drivers) Gave(driver spark.Pod, namespace string) {
	if d.jobs == nil {
		return
	}
	job, given := namespace+"/"+sparkjob.NameOf(driver), gift{namespace + "/" + driver.Name, d.now()}
	if before, ok := d.jobs.given.Get(job); ok && given.at.Sub(before.(gift).at) < withheld {
		given.at = before.(gift).at // it did not come yet, and attempts may follow each other closely
	}
	d.jobs.given.Add(job, given)
	d.jobs.awaited.Add(given.pod, job)
}

// came notes that a driver was created.
func (j *jobs) came(pod string) {
	job, ok := j.awaited.Get(pod)
	if !ok {
		return
	}
	j.awaited.Remove(pod)
	if found, ok := j.given.Get(job); ok && found.(gift).pod == pod {
		j.given.Remove(job)
	}
}

// isWithheld reports whether the last driver of a job that got more memory did not come.
func (d *Drivers) isWithheld(job string) bool {
	found, ok := d.jobs.given.Get(job)
	if !ok {
		return false
	}
	age := d.now().Sub(found.(gift).at)
	return arrives < age && age < withheld
}
