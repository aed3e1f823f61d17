package recorder

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// Jobs says what is kept of the runs of SparkJobs.
type Jobs struct {
	Client dynamic.Interface // nil keeps nothing
	// Runs is how many runs a job keeps.
	Runs int
	// Keep is after how long without a run a job is deleted.
	Keep time.Duration
}

const (
	jobWorkers = 8
	// settleWait is how long the run of a driver that ended waits for its record.
	settleWait = 2 * time.Second
	// firstLook and lastLook limit the time between two looks at a running driver. Between
	// them it is a tenth of what the driver has run, so the end of a run is measured too.
	firstLook, lastLook = 30 * time.Second, 5 * time.Minute
	// gapOfWrites is the time between two writes about a run that only goes on.
	gapOfWrites = lastLook - firstLook
	// newJobsEach is how many jobs a namespace may get at once, and after newJobPause it may get
	// one more: who may create pods names them.
	newJobsEach, newJobPause = 200, time.Minute
	// believe is for how long a run that says nothing new is not compared with its job.
	believe = time.Hour
	// maxRuns is how many runs are remembered, and maxGone how many drivers' pods that are
	// deleted and whose runs are not written yet.
	maxRuns, maxGone = 16384, 4096
	// unseenAfter is after how long a driver that no watch knows is gone.
	unseenAfter = 15 * time.Minute
	// absentWait is how long the API server is not asked again that does not know SparkJobs.
	absentWait = 5 * time.Minute
	// forgetEvery is how long it takes at least until unused jobs are deleted again.
	forgetEvery = 3 * time.Hour
	// goneFor is for how long the run of a deleted driver is tried again that cannot be
	// written.
	goneFor = time.Hour
)

// jobs writes the runs of jobs, beside the record of deaths: it has its own queue and its
// own workers, and what it cannot write delays no record.
type jobs struct {
	Jobs
	queue workqueue.TypedRateLimitingInterface[run]
	// beginning has drivers that began, whose executors may start with a plan.
	beginning workqueue.TypedRateLimitingInterface[run]
	runs      *lru.Cache // by UID of the driver, of *runKnown
	asking    *asking

	created *lru.Cache // by namespace, limits of new jobs

	mutex sync.Mutex
	gone  map[types.UID]*corev1.Pod // drivers that were deleted, as they were last

	absent atomic.Pointer[time.Time] // when the API server did not know SparkJobs; nil if it does
	once   sync.Once                 // to say so
}

// run identifies a driver.
type run struct {
	types.NamespacedName
	uid types.UID
}

// runKnown is what this replica knows of a run, and no pod shows.
type runKnown struct {
	mutex       sync.Mutex // of what follows
	asked       time.Time  // when the driver was asked for measurements last
	peaks       sparkjob.Containers[sparkjob.Peaks]
	at          *metav1.Time             // when the answer was asked for that has the peaks
	written     string                   // version of the driver's pod whose end is written
	name        string                   // of its job
	said        *sparkjob.Run            // what the job has of it, or had
	saidAt      time.Time                // when it had
	ended       *corev1.Pod              // as the driver was seen before it was deleted, if its end is not worked out yet
	end         *sparkjob.Run            // how it ended then; nil while it runs
	lost        time.Time                // when it was deleted
	application string                   // namespace/name
	begun       bool                     // its executors are planned, or are about to be
	needed      []annotations.RemedyPlan // that came too late for it
	executors   *sparkjob.Executors      // what Spark asks for them; nil if none was seen
}

func newJobs(c Jobs) *jobs {
	if c.Client == nil {
		return nil
	}
	return &jobs{Jobs: c, queue: workqueue.NewTypedRateLimitingQueue(retries[run]()), beginning: workqueue.NewTypedRateLimitingQueue(retries[run]()), runs: lru.New(maxRuns), created: lru.New(maxRemembered), asking: &asking{of: map[string]int{}}, gone: map[types.UID]*corev1.Pod{}}
}

func keyOf(driver spark.Pod) run {
	return run{types.NamespacedName{Namespace: driver.Namespace, Name: driver.Name}, driver.UID}
}

func (j *jobs) known(uid types.UID) *runKnown {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if found, ok := j.runs.Get(uid); ok {
		return found.(*runKnown)
	}
	made := new(runKnown)
	j.runs.Add(uid, made)
	return made
}

// nameOf returns the name of a run's job. It stays, because the annotation may change.
func (k *runKnown) nameOf(driver spark.Pod) string {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.name == "" {
		k.name = sparkjob.NameOf(driver)
	}
	return k.name
}

// mayCreate reports whether a namespace may get another job now.
func (j *jobs) mayCreate(namespace string, now time.Time) bool {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	limit, ok := j.created.Get(namespace)
	if !ok {
		limit = rate.NewLimiter(rate.Every(newJobPause), newJobsEach)
		j.created.Add(namespace, limit)
	}
	return limit.(*rate.Limiter).AllowN(now, 1)
}

// sawRun has the run of a driver written, if it is one of a job.
func (r *recorder) sawRun(driver spark.Pod) {
	if r.jobs == nil || sparkjob.NameOf(driver) == "" || !r.recordsIn(driver.Namespace) || !r.records(driver) {
		return
	}
	wait := firstLook
	_, ended := driver.End()
	if ended {
		wait = settleWait + r.replicas.delay()
	}
	r.jobs.known(driver.UID).isOf(driver)
	if driver.DeletionTimestamp == nil {
		r.jobs.known(driver.UID).noteEnd(driver, ended)
	}
	r.jobs.queue.AddAfter(keyOf(driver), wait)
	if !ended {
		r.sawBegin(driver)
	}
}

// noteEnd notes a driver that ended and that nobody has deleted yet. Many are deleted
// before their run is written. It is called for each event of a driver, so it works out
// nothing.
func (k *runKnown) noteEnd(driver spark.Pod, ended bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.ended = driver.Pod
	if !ended {
		k.ended, k.end = nil, nil
	}
}

// endSeen returns how a driver ended before it was deleted, or nil.
func (k *runKnown) endSeen(runOf func(spark.Pod, bool) sparkjob.Run) *sparkjob.Run {
	k.mutex.Lock()
	ended, end := k.ended, k.end
	k.mutex.Unlock()
	if ended == nil {
		return end
	}
	driver, err := spark.PodOf(ended)
	if err != nil {
		return nil
	}
	seen := runOf(driver, false)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.ended == ended {
		k.ended, k.end = nil, &seen
	}
	return &seen
}

// lostRun has the run of a driver written that was deleted.
func (r *recorder) lostRun(p *corev1.Pod) {
	driver, err := spark.PodOf(p)
	if r.jobs == nil || err != nil || sparkjob.NameOf(driver) == "" || !r.recordsIn(p.Namespace) || !r.records(driver) {
		return
	}
	if !r.jobs.noteGone(p, r.now()) {
		r.metrics.dropped.Inc()
	}
	r.jobs.queue.AddAfter(keyOf(driver), settleWait+r.replicas.delay())
}

// noteGone notes a driver that was deleted, unless too many wait.
func (j *jobs) noteGone(p *corev1.Pod, now time.Time) bool {
	known := j.known(p.UID)
	known.mutex.Lock()
	known.lost = now
	known.mutex.Unlock()
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if len(j.gone) >= maxGone {
		return false
	}
	j.gone[p.UID] = p
	return true
}

// hopes reports whether the run of a driver that is gone may still be written.
func (j *jobs) hopes(uid types.UID, now time.Time) bool {
	known := j.known(uid)
	known.mutex.Lock()
	defer known.mutex.Unlock()
	return now.Sub(known.lost) < goneFor
}

// driverOf returns the driver of a run, and whether it was deleted. It is nil if it is
// not known any more.
func (r *recorder) driverOf(of run) (p *corev1.Pod, gone bool) {
	r.jobs.mutex.Lock()
	defer r.jobs.mutex.Unlock()
	if p, gone = r.jobs.gone[of.uid]; gone {
		return p, true
	}
	if p = r.podOf(of.NamespacedName); p != nil && p.UID != of.uid {
		p = nil
	}
	return p, false
}

// runJobs writes runs and forgets unused jobs, until the context ends.
func (r *recorder) runJobs(ctx context.Context, start func(func() error)) {
	if r.jobs == nil {
		return
	}
	context.AfterFunc(ctx, r.jobs.queue.ShutDown)
	context.AfterFunc(ctx, r.jobs.beginning.ShutDown)
	for range beginWorkers {
		start(func() error { r.beginRuns(ctx); return nil })
	}
	for range jobWorkers {
		start(func() error { r.writeRuns(ctx); return nil })
	}
	start(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(forgetEvery + rand.N(forgetEvery)): // replicas start together
				r.safely(func() { r.forgetJobs(ctx) })
			}
		}
	})
}

// writeRuns works until the queue is shut down.
func (r *recorder) writeRuns(ctx context.Context) {
	for {
		next, shutdown := r.jobs.queue.Get()
		if shutdown {
			return
		}
		p, gone := r.driverOf(next)
		var again time.Duration
		var err error
		r.safely(func() { again, err = r.lookAtRun(ctx, p, gone) })
		if err != nil && ctx.Err() == nil {
			r.failed("job", err, "namespace", next.Namespace, "driver", next.Name)
		}
		switch {
		case err != nil && (!final(err) || mayBeStarting(err)) && !errors.Is(err, errTooManyJobs) && r.jobs.queue.NumRequeues(next) < maxFailures:
			r.jobs.queue.AddRateLimited(next)
		case err != nil && gone && r.jobs.hopes(next.uid, r.now()):
			r.jobs.queue.AddAfter(next, refusedWait)
		case again > 0:
			r.jobs.queue.Forget(next)
			r.jobs.queue.AddAfter(next, again/2+rand.N(again/2)) // at another age in each run
		default:
			if err != nil && gone {
				r.metrics.dropped.Inc()
			}
			r.jobs.queue.Forget(next)
			r.jobs.forgetDriver(next.uid, p)
		}
		r.jobs.queue.Done(next)
	}
}

// safely does something for jobs. A bug there must not end the recorder.
func (r *recorder) safely(do func()) {
	defer func() {
		if mistake := recover(); mistake != nil {
			r.metrics.errors.WithLabelValues("panic").Inc()
			r.Log.Error("a run is not kept because of a bug in spark-vitals", "panic", mistake, "stack", string(debug.Stack()))
		}
	}()
	do()
}

// forgetDriver forgets a pod that was deleted, unless a later one is known.
func (j *jobs) forgetDriver(uid types.UID, p *corev1.Pod) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if j.gone[uid] == p {
		delete(j.gone, uid)
	}
}
