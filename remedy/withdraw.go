package remedy

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// createdWithin is how long after a death the next executor is created at the latest.
	// Spark takes 1 to 2 s (3.5.9). If the API server refuses it, Spark tries again each
	// second, for ever.
	createdWithin = 30 * time.Second
	// roomWithin is how long an executor with more memory may wait for a node.
	roomWithin = 2 * time.Minute
	// Look is how often a plan with more memory is looked at.
	Look = 15 * time.Second
)

// Withdraw takes back the memory of plans that keep executors from starting: a refused
// creation would hang an application that failed without it. It returns the plans, and
// whether one has changed. executors are all known pods of the application's executors.
func Withdraw(plans []annotations.RemedyPlan, record *oom.Record, executors []spark.Pod, now time.Time) (after []annotations.RemedyPlan, changed bool) {
	for _, p := range plans {
		if p.MoreMemory() && p.Mode == annotations.Enabled {
			if p.Withdrawn = withdrawal(&p, record, executors, now); p.Withdrawn != "" {
				changed = true
			}
		}
		after = append(after, p)
	}
	return after, changed
}

// IsToBeLookedAt reports whether a plan may have to be withdrawn.
func IsToBeLookedAt(plans []annotations.RemedyPlan, now time.Time) bool {
	for _, p := range plans {
		if p.MoreMemory() && p.Mode == annotations.Enabled && now.Before(p.Until) {
			return true
		}
	}
	return false
}

// withdrawal returns why the memory of a plan is withdrawn, or "".
func withdrawal(p *annotations.RemedyPlan, record *oom.Record, executors []spark.Pod, now time.Time) string {
	created := false
	for _, e := range executors {
		if e.ResourceProfile() != p.Profile || e.CreationTimestamp.Time.Before(p.Memory.Since) {
			continue
		}
		created = true
		if since, waits := unschedulable(e); waits && e.Memory().Limit>>20 == p.Memory.ToLimitMiB && now.Sub(since) >= roomWithin {
			return fmt.Sprintf("executor %s found no node with so much memory for %d minutes", e.Labels[spark.ExecutorIDLabel], int(roomWithin.Minutes()))
		}
	}
	for i := range record.Details { // it may have died and be gone
		d := &record.Details[i]
		created = created || d.Role == spark.Executor && d.ResourceProfile() == p.Profile && d.LimitMiB == p.Memory.ToLimitMiB
	}
	if !created && now.Sub(p.Memory.Since) >= createdWithin {
		return fmt.Sprintf("no executor was created within %d seconds, so a quota, a LimitRange or another policy may refuse it", int(createdWithin.Seconds()))
	}
	return ""
}

// unschedulable returns since when no node has room for a pod.
func unschedulable(e spark.Pod) (since time.Time, waits bool) {
	for _, c := range e.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c.LastTransitionTime.Time, e.Status.Phase == corev1.PodPending
		}
	}
	return since, false
}
