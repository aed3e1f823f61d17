package recorder

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/lru"

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
	// maxRuns is how many runs are remembered, and maxGone how many drivers' pods that are
	// deleted and whose runs are not written yet.
	maxRuns, maxGone = 16384, 4096
	// unseenAfter is after how long a driver that no watch knows is gone.
	unseenAfter = 15 * time.Minute
	// absentWait is how long the API server is not asked again that does not know SparkJobs.
	absentWait = 5 * time.Minute
	// forgetEvery is how often unused jobs are deleted.
	forgetEvery = 6 * time.Hour
)

// jobs writes the runs of jobs, beside the record of deaths: it has its own queue and its
// own workers, and what it cannot write delays no record.
type jobs struct {
	Jobs
	queue  workqueue.TypedRateLimitingInterface[run]
	runs   *lru.Cache    // by UID of the driver, of *runKnown
	asking chan struct{} // has a place for each question

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
	mutex   sync.Mutex // of what follows
	asked   time.Time  // when the driver was asked for measurements last
	peaks   sparkjob.Containers[sparkjob.Peaks]
	at      *metav1.Time  // when the answer was asked for that has the peaks
	written string        // version of the driver's pod whose end is written
	end     *sparkjob.Run // as it was seen before the driver was deleted; nil while it runs
}

func newJobs(c Jobs) *jobs {
	if c.Client == nil {
		return nil
	}
	return &jobs{Jobs: c, queue: workqueue.NewTypedRateLimitingQueue(retries[run]()), runs: lru.New(maxRuns), asking: make(chan struct{}, jobWorkers), gone: map[types.UID]*corev1.Pod{}}
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
	if driver.DeletionTimestamp == nil {
		r.noteEnd(driver, ended)
	}
	r.jobs.queue.AddAfter(keyOf(driver), wait)
}

// noteEnd notes how a driver ended that nobody has deleted yet. Many are deleted before
// their run is written.
func (r *recorder) noteEnd(driver spark.Pod, ended bool) {
	var end *sparkjob.Run
	if ended {
		seen := r.runOf(driver, false)
		end = &seen
	}
	known := r.jobs.known(driver.UID)
	known.mutex.Lock()
	defer known.mutex.Unlock()
	known.end = end
}

// lostRun has the run of a driver written that was deleted.
func (r *recorder) lostRun(p *corev1.Pod) {
	driver, err := spark.PodOf(p)
	if r.jobs == nil || err != nil || sparkjob.NameOf(driver) == "" || !r.recordsIn(p.Namespace) || !r.records(driver) {
		return
	}
	r.jobs.mutex.Lock()
	if len(r.jobs.gone) < maxGone {
		r.jobs.gone[p.UID] = p
	}
	r.jobs.mutex.Unlock()
	r.jobs.queue.AddAfter(keyOf(driver), settleWait+r.replicas.delay())
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
	for range jobWorkers {
		start(func() error { r.writeRuns(ctx); return nil })
	}
	start(func() error {
		wait.JitterUntilWithContext(ctx, r.forgetJobs, forgetEvery, 0.5, true)
		return nil
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
		again, err := r.lookSafely(ctx, p, gone)
		if err != nil && ctx.Err() == nil {
			r.failed("job", err, "namespace", next.Namespace, "driver", next.Name)
		}
		switch {
		case err != nil && !final(err) && r.jobs.queue.NumRequeues(next) < maxFailures:
			r.jobs.queue.AddRateLimited(next)
		case again > 0:
			r.jobs.queue.Forget(next)
			r.jobs.queue.AddAfter(next, again/2+rand.N(again/2)) // at another age in each run
		default:
			r.jobs.queue.Forget(next)
			r.jobs.forgetDriver(next.uid, p)
		}
		r.jobs.queue.Done(next)
	}
}

// lookSafely looks at a run. A bug there must not end the recorder.
func (r *recorder) lookSafely(ctx context.Context, p *corev1.Pod, gone bool) (again time.Duration, err error) {
	defer func() {
		if mistake := recover(); mistake != nil {
			r.metrics.errors.WithLabelValues("panic").Inc()
			r.Log.Error("a run is not kept because of a bug in spark-vitals", "panic", mistake, "stack", string(debug.Stack()))
		}
	}()
	return r.lookAtRun(ctx, p, gone)
}

// forgetDriver forgets a pod that was deleted, unless a later one is known.
func (j *jobs) forgetDriver(uid types.UID, p *corev1.Pod) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if j.gone[uid] == p {
		delete(j.gone, uid)
	}
}
