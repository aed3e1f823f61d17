package remedy

import (
	"fmt"
	"slices"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// ShortFor is how long fewer executors may run than before. Spark creates the next one
	// after 1 to 2 s (3.5.9). If the API server refuses it, Spark tries again each second,
	// for ever.
	ShortFor = 30 * time.Second
	// Look is how often a plan with more memory is looked at.
	Look = 10 * time.Second
	// startFor is how long an application that starts with more memory may be without an
	// executor.
	startFor = 2 * time.Minute
)

// IsStarting reports whether an application that starts with a plan may have no executor
// yet.
func IsStarting(p *annotations.RemedyPlan, driver spark.Pod, now time.Time) bool {
	status := driver.ContainerStatus()
	return p.Run != "" && (status == nil || status.State.Running == nil || now.Sub(status.State.Running.StartedAt.Time) < startFor)
}

// IsToBeLookedAt reports whether more memory of a plan may have to be withdrawn.
func IsToBeLookedAt(p *annotations.RemedyPlan, now time.Time) bool {
	return p.MoreMemory() && p.Mode == annotations.Enabled && now.Before(p.Until)
}

// IsShort reports whether fewer executors run or start than before the death because of
// which a plan has more memory. executors are all known pods of the application's
// executors.
func IsShort(p *annotations.RemedyPlan, executors []spark.Pod) bool {
	alive := 0
	for _, e := range executors {
		if e.IsAlive() && e.ResourceProfile() == p.Profile {
			alive++
		}
	}
	return alive < p.Memory.Executors
}

// IsProven reports whether an executor has the memory of a plan, so that its creation was
// not refused.
func IsProven(p *annotations.RemedyPlan, executors []spark.Pod) bool {
	return slices.ContainsFunc(executors, func(e spark.Pod) bool {
		return e.ResourceProfile() == p.Profile && e.Memory().Limit>>20 == p.Memory.ToLimitMiB
	})
}

// Withdraw returns plans with the memory of one taken back: its executors were short for
// [ShortFor]. A refused creation would hang an application that failed without it. started
// is whether an executor had started with that memory.
func Withdraw(plans []annotations.RemedyPlan, profile string, started bool) []annotations.RemedyPlan {
	plans = slices.Clone(plans)
	for i := range plans {
		if plans[i].Profile == profile {
			if m := plans[i].Memory; m != nil {
				own := *m
				own.Started, plans[i].Memory = started, &own
			}
			plans[i].Withdrawn = fmt.Sprintf("fewer executors than before ran for %d seconds, and if Spark asked for more, a quota, a LimitRange or another policy may have refused them", int(ShortFor.Seconds()))
		}
	}
	return plans
}
