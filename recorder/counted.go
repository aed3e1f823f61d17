package recorder

import "github.com/spark-vitals/spark-vitals/sparkjob"

// countRuns counts what a write of a job added: runs that ended, and the time that their
// executors ran in vain. The API server takes each version of a job from one replica, so
// the sum over the replicas is right.
func (r *recorder) countRuns(namespace string, before, after *sparkjob.Status) {
	for i := range after.Runs {
		now := &after.Runs[i]
		was := before.Run(now)
		if now.State == sparkjob.Running || was == nil && r.wasCounted(now) {
			continue
		}
		lost := now.LostExecutorSeconds
		if was != nil && was.State != sparkjob.Running {
			lost -= was.LostExecutorSeconds // it may become known later
		} else {
			r.metrics.runs.WithLabelValues(namespace, string(now.State)).Inc()
		}
		r.metrics.lost.WithLabelValues(namespace).Add(float64(max(lost, 0)))
	}
}

// wasCounted reports whether a run that its job does not have was counted before: somebody
// deleted the job, or the recorder is the first one and finds old drivers.
func (r *recorder) wasCounted(run *sparkjob.Run) bool {
	if run.Ended != nil && r.now().Sub(run.Ended.Time) >= oldest {
		return true
	}
	known := r.jobs.known(run.UID)
	known.mutex.Lock()
	defer known.mutex.Unlock()
	return known.said != nil && known.said.Application == run.Application && known.said.State != sparkjob.Running
}
