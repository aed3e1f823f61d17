package recorder

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// counts are what replicas counted together.
func counts(state sparkjob.State, replicas ...*site) (runs, lost float64) {
	for _, s := range replicas {
		runs += testutil.ToFloat64(s.metrics.runs.WithLabelValues("spark", string(state)))
		lost += testutil.ToFloat64(s.metrics.lost.WithLabelValues("spark"))
	}
	return runs, lost
}

// One of two replicas counts the end of a run, also after a conflict, a replay and a
// restart, and when the driver is deleted.
func TestRunIsCountedOnce(t *testing.T) {
	on := newServer()
	a, b, restarted := remembering(t, on), remembering(t, on), remembering(t, on)
	running := nightly(t, "u-1", now.Add(-time.Hour))
	killed := ended(running, "7", "OOMKilled", 137, now.Add(-time.Minute))
	executor := died(t, "../oom/testdata/causes/oomkilled-executor.txtar")
	looks(t, a, running, false)
	if runs, _ := counts(sparkjob.Killed, a, b); runs != 0 {
		t.Errorf("%v runs ended while one runs", runs)
	}
	on.before = func() { looks(t, b, killed, false) } // both write it
	looks(t, a, killed, false)
	for _, s := range []*site{a, b, restarted} {
		for range 2 {
			looks(t, s, killed, false)
		}
	}
	other := executor.DeepCopy()
	other.UID, other.Labels[spark.ExecutorIDLabel] = "other", "77"
	for i, known := range [][]*corev1.Pod{{executor}, {executor, other}} { // later
		withRecord(t, killed, known...)
		killed.ResourceVersion = strconv.Itoa(8 + i)
		for _, s := range []*site{restarted, a, b} {
			looks(t, s, killed, false)
		}
	}
	deleted := killed.DeepCopy()
	deleted.ResourceVersion = "10"
	for _, s := range []*site{restarted, a, b} {
		looks(t, s, deleted, true)
	}
	end := executor.Status.ContainerStatuses[0].State.Terminated
	lived := 2 * end.FinishedAt.Sub(end.StartedAt.Time).Seconds()
	if runs, lost := counts(sparkjob.Killed, a, b, restarted); runs != 1 || lost != lived || lived == 0 {
		t.Errorf("%v runs, %v of %v seconds", runs, lost, lived)
	}
}

// A driver that brings its run back into a job that somebody deleted counts no second time,
// whichever replica writes it.
func TestRunThatIsBroughtBackIsNotCountedAgain(t *testing.T) {
	on := newServer()
	later := now
	a, b := remembering(t, on), remembering(t, on)
	for _, s := range []*site{a, b} {
		s.now = func() time.Time { return later }
	}
	failed := ended(nightly(t, "u-1", now.Add(-time.Hour)), "7", "Error", 1, now)
	looks(t, a, failed, false)
	looks(t, b, failed, false)
	delete(on.objects, "nightly")
	later = now.Add(believe)
	failed.ResourceVersion = "8"
	looks(t, b, failed, false)
	if runs, _ := counts(sparkjob.Failed, a, b); runs != 1 || len(on.nightly(t).Runs) != 1 {
		t.Errorf("%v runs, in the job %d", runs, len(on.nightly(t).Runs))
	}
	delete(on.objects, "nightly")
	first := remembering(t, on) // finds it long after its end
	first.now = func() time.Time { return now.Add(oldest) }
	looks(t, first, failed, false)
	if runs, _ := counts(sparkjob.Failed, first); runs != 0 || len(on.nightly(t).Runs) != 1 {
		t.Errorf("%v runs, in the job %d", runs, len(on.nightly(t).Runs))
	}
}

// A run whose end nobody saw counts as UNKNOWN: by the next run of its job, or by the look
// for unused jobs.
func TestUnseenRunIsCounted(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	later := now
	s.now = func() time.Time { return later }
	looks(t, s, nightly(t, "u-1", now), false)
	later = now.Add(time.Hour)
	looks(t, s, nightly(t, "u-2", later), false)
	if runs, _ := counts(sparkjob.Unknown, s); runs != 1 {
		t.Errorf("the next run counts %v", runs)
	}
	later = later.Add(time.Hour)
	for range 2 {
		s.forgetJobs(t.Context())
	}
	if runs, _ := counts(sparkjob.Unknown, s); runs != 2 {
		t.Errorf("the look for unused jobs counts %v", runs)
	}
}

// The name of a job or of a driver is no label: there are too many.
func TestFewSeriesOfRuns(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	for _, name := range []string{"a", "b", "c"} {
		p := ended(nightly(t, types.UID(name), now.Add(-time.Hour)), "7", "Error", 1, now)
		p.Annotations[annotations.Job] = name
		looks(t, s, p, false)
	}
	if runs, lost := testutil.CollectAndCount(s.metrics.runs), testutil.CollectAndCount(s.metrics.lost); len(on.objects) != 3 || runs != 1 || lost != 1 {
		t.Errorf("%d jobs have %d and %d series", len(on.objects), runs, lost)
	}
}

// withRecord gives a driver the record of executors' deaths.
func withRecord(t *testing.T, driver *corev1.Pod, executors ...*corev1.Pod) {
	t.Helper()
	var record oom.Record
	for _, p := range executors {
		record.Add(oom.Terminations(oom.Evidence{Pod: p})...)
	}
	for key, value := range record.Annotations(mustPod(t, driver), oom.Plenty) {
		driver.Annotations[key] = value
	}
}
