package recorder

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// lookAtRun asks a running driver for measurements, and writes what is known of its run.
// It returns after how long to look again, or 0. The pod may be nil: then the run is not
// known any more.
func (r *recorder) lookAtRun(ctx context.Context, p *corev1.Pod, gone bool) (again time.Duration, err error) {
	if p == nil {
		return 0, nil
	}
	driver, err := spark.PodOf(p)
	if err != nil {
		return 0, nil //nolint:nilerr // only drivers are in the queue
	}
	end, ended := driver.End()
	ended = ended || gone
	known := r.jobs.known(p.UID)
	name := known.nameOf(driver)
	if name == "" || !r.recordsIn(p.Namespace) || !r.records(driver) { // not any more
		return 0, nil
	}
	if ended && (known.hasWritten(p) || !end.At.IsZero() && r.now().Sub(end.At.Time) > r.jobs.Keep) {
		return 0, nil
	}
	if !ended {
		again = lookAfter(r.now().Sub(p.CreationTimestamp.Time))
		r.measureRun(ctx, driver, known)
	}
	if r.jobs.isAbsent(r.now()) {
		return again, nil
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	seen := r.runSeen(driver, gone, known)
	if known.hasSaid(&seen, r.now()) {
		return again, nil
	}
	if err := r.addRun(ctx, p.Namespace, name, seen); err != nil {
		return again, err
	}
	if r.jobs.isAbsent(r.now()) {
		return again, nil
	}
	known.says(&seen, r.now())
	if ended {
		known.wrote(p)
	}
	return again, nil
}

// lookAfter returns after how long at most a driver is looked at again that has run for so
// long.
func lookAfter(age time.Duration) time.Duration { return min(max(age/10, firstLook), lastLook) }

func (k *runKnown) hasWritten(p *corev1.Pod) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.written != "" && k.written == p.ResourceVersion
}

// hasSaid reports whether the job needs not be read, because it has what a run says, or
// has most of it and the run goes on.
func (k *runKnown) hasSaid(seen *sparkjob.Run, now time.Time) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.said == nil {
		return false
	}
	age := now.Sub(k.saidAt)
	goesOn := seen.State == sparkjob.Running && k.said.State == sparkjob.Running && age < gapOfWrites
	return goesOn || k.said.SaysSameAs(seen) && age < believe
}

// says notes that the job has what a run says.
func (k *runKnown) says(seen *sparkjob.Run, now time.Time) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.said, k.saidAt = seen, now
}

func (k *runKnown) wrote(p *corev1.Pod) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.written = p.ResourceVersion
}

// measureRun asks a driver what it and its executors measured. Like a death, it asks only
// a driver that has said its settings. It has places of its own for questions, so it takes
// none from deaths. An answer that comes late is for the next look.
func (r *recorder) measureRun(ctx context.Context, driver spark.Pod, known *runKnown) {
	now := r.now()
	if r.knowledge.settingsOf(driver.UID) == nil || !known.isDue(now, lookAfter(now.Sub(driver.CreationTimestamp.Time))/2) {
		return
	}
	soon, cancel := context.WithTimeout(ctx, peaksTimeout)
	defer cancel()
	r.jobs.asking.inBackground(driver.Namespace, func() {
		var m measurement
		if r.knowledge.ui.EachExecutor(context.WithoutCancel(ctx), driver, m.add) == nil {
			known.measured(&m, now)
		}
	}).within(soon)
}

// isDue reports whether the driver is to be asked now, and notes that it is.
func (k *runKnown) isDue(now time.Time, pause time.Duration) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if now.Sub(k.asked) < pause {
		return false
	}
	k.asked = now
	return true
}

// retainedDead is how many dead executors a driver lists at most, if
// spark.ui.retainedDeadExecutors is not set.
const retainedDead = 100

// measurement is what a driver and all its executors measured.
type measurement struct {
	peaks sparkjob.Containers[sparkjob.Peaks]
	dead  int
}

func (m *measurement) add(e *driverui.Executor) {
	to := &m.peaks.Executor
	if e.IsDriver {
		to = &m.peaks.Driver
	}
	peaks := peaksOf(e.Peaks, 0)
	*to = to.Max(sparkjob.PeaksOf(&peaks))
	if e.Dead {
		m.dead++
	}
}

// measured notes what a driver answered that was asked at a time. If it may have forgotten
// executors, the run is not measured until then.
func (k *runKnown) measured(m *measurement, asked time.Time) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.peaks.Driver, k.peaks.Executor = k.peaks.Driver.Max(m.peaks.Driver), k.peaks.Executor.Max(m.peaks.Executor)
	if m.dead < retainedDead {
		k.at = &metav1.Time{Time: asked.UTC().Truncate(time.Second)}
	}
}

// runOf returns what the pods show of a run.
func (r *recorder) runOf(driver spark.Pod, gone bool) sparkjob.Run {
	record := r.read(driver)
	record.Add(oom.Terminations(oom.Evidence{Pod: driver.Pod})...)
	pods := r.podsOf(applicationOf(driver))
	sawExecutors(&record, pods)
	noted, needed := r.jobs.known(driver.UID).noted()
	return sparkjob.RunOf(sparkjob.Evidence{Driver: driver, Gone: gone, Record: &record, Executors: executorsOf(driver, pods), Noted: noted, Needed: needed})
}

// runSeen returns what is known of a run.
func (r *recorder) runSeen(driver spark.Pod, gone bool, known *runKnown) sparkjob.Run {
	seen := r.runOf(driver, gone)
	seen.Set(r.knowledge.settingsOf(driver.UID), driver.Language())
	if end := known.endSeen(r.runOf); end != nil {
		seen.EndAs(end)
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	seen.AddPeaks(known.peaks, known.at)
	return seen
}

// executorsOf returns the executors among pods that belong to a driver.
func executorsOf(driver spark.Pod, pods []*corev1.Pod) (all []*corev1.Pod) {
	for _, p := range pods {
		executor, err := spark.PodOf(p)
		if err != nil || executor.Role != spark.Executor {
			continue
		}
		if owner, ok := executor.Driver(); !ok || owner.UID == driver.UID {
			all = append(all, p)
		}
	}
	return all
}
