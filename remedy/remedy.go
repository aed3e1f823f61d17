// Package remedy decides what the later executors of an application get, because
// earlier ones died of memory: fewer cores, so that fewer tasks share the memory of an
// executor, and more memory, up to a ceiling. Spark counts the cores that an executor
// registers with, and not those of its configuration.
//
// It is pure. [Plans] works the plans out from the record of deaths, so replicas, replays
// and restarts of the recorder agree.
package remedy

import (
	"slices"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// lasts is how long a plan holds after the last death. One bad hour does not halve a
// streaming application for its whole life.
const lasts = 6 * time.Hour

// Application is what is known of an application when an executor has died.
type Application struct {
	Driver spark.Pod
	Record *oom.Record // with that death
	// Terms are those of the rules of the executors that died, by resource profile.
	Terms map[string]annotations.RemedyTerms
	// Executors are how many executors of each resource profile ran before the death.
	Executors map[string]int
	// Settings are what the driver's UI said lately; nil if it did not.
	Settings *spark.Settings
	// Barrier is whether a job was seen that has a barrier stage; nil if the driver's UI did
	// not say it.
	Barrier *bool
}

// Plans returns the plans of an application that had other ones before. It changes only
// the plans of resource profiles that have terms.
func Plans(before []annotations.RemedyPlan, a Application) []annotations.RemedyPlan {
	plans, mode := slices.Clone(before), a.Driver.Annotations[annotations.RemedyMode]
	if mode == string(annotations.Disabled) {
		return nil // the user wants none
	}
	for profile, terms := range a.Terms {
		if mode == string(annotations.Audit) {
			terms.Mode = annotations.Audit
		}
		i := slices.IndexFunc(plans, func(p annotations.RemedyPlan) bool { return p.Profile == profile })
		var old annotations.RemedyPlan
		if i >= 0 {
			old = plans[i]
		}
		next, ok := a.plan(old, profile, terms)
		switch {
		case !ok:
		case i >= 0:
			plans[i] = next
		default:
			plans = append(plans, next)
		}
	}
	slices.SortFunc(plans, func(a, b annotations.RemedyPlan) int { return strings.Compare(a.Profile, b.Profile) })
	return annotations.ReadRemedy(annotations.RemedyText(plans)) // labels of pods may be forged
}

// plan returns the next plan of a resource profile. ok is false if there is none yet, or
// it stays as it was.
func (a *Application) plan(old annotations.RemedyPlan, profile string, terms annotations.RemedyTerms) (next annotations.RemedyPlan, ok bool) {
	died := a.died(profile)
	if len(died) == 0 {
		return old, false
	}
	newest := died[0]
	died = slices.DeleteFunc(died, func(t *oom.Termination) bool { return newest.At.Sub(t.At.Time) > lasts })
	next = old
	inAudit := old.Run != "" && old.Mode == annotations.Audit // the executors have nothing of it
	if old.Application != a.Driver.Application() || newest.At.After(old.Until) || inAudit {
		next = asCreated(newest)
		next.Application, next.Profile = a.Driver.Application(), profile
		if old.Application == next.Application {
			next.Withdrawn = old.Withdrawn
		}
	}
	next.Mode, next.Refused = terms.Mode, ""
	if a.hasBarrier() && next.FewerCores() {
		next.ToCores, next.Refused = next.FromCores, barrierStage.why(nil)
	}
	if until := newest.At.Add(lasts); until.After(next.Until) {
		next.Until = until.UTC().Truncate(time.Second)
	}
	for {
		enough := a.few()
		if !next.Changes() {
			enough = max(enough, terms.AfterDeaths)
		}
		if n := count(died, &next); n < enough {
			return next, next.Changes() || next.Refused != ""
		}
		c := candidate{Application: a, terms: terms, plan: next, newest: newest}
		if next = c.next(); next.Refused != "" {
			return next, true
		}
		next.Run = ""
	}
}

func (a *Application) hasBarrier() bool { return a.Barrier != nil && *a.Barrier }

// asCreated returns a plan of what an executor was created with, and of what Spark asked
// for.
func asCreated(t *oom.Termination) annotations.RemedyPlan {
	plan := annotations.RemedyPlan{FromCores: t.Cores, ToCores: t.Cores}
	if t.Remedied == nil {
		return plan
	}
	if t.Remedied.ToCores == t.Cores {
		plan.FromCores = t.Remedied.FromCores
	}
	plan.Memory = t.Remedied.Memory
	return plan
}

// few returns how many deaths at least lead to a step. A large application loses some
// executors to skewed tasks, and its retries carry it. The record has a few deaths in
// detail.
func (a *Application) few() int {
	return min(max(1, int(a.Record.Executors/100)), annotations.MaxAfterDeaths)
}

// died returns the executors of a resource profile that the record has in detail and
// that died of memory for certain, the newest first.
func (a *Application) died(profile string) (all []*oom.Termination) {
	for i := range a.Record.Details {
		if t := &a.Record.Details[i]; t.Role == spark.Executor && t.IsSparks() && t.ResourceProfile() == profile && isOfMemory(t) && isPossible(t.Cores) {
			all = append(all, t)
		}
	}
	return all
}

func isPossible(cores int) bool { return 1 <= cores && cores <= annotations.MaxRemedyCores }

// isOfMemory reports whether fewer tasks need less of what was too small. They do not if
// - memory is only suspected;
// - the JVM ran out of something that is not its heap;
// - local files fill the memory;
// - all processes were far below the limit when they were measured last.
func isOfMemory(t *oom.Termination) bool {
	switch t.Cause {
	case oom.HeapOOM:
		return true
	case oom.OOMKilled, oom.ChildOOMKilled:
		return t.LimitMiB > 0 && !t.LocalDirsInMemory && !t.FarBelowLimit()
	default:
		return false
	}
}

// count returns how many executors died with all that a plan gives them.
func count(died []*oom.Termination, plan *annotations.RemedyPlan) (n int) {
	for _, t := range died {
		if t.Cores == plan.ToCores && (!plan.MoreMemory() || t.LimitMiB == plan.Memory.ToLimitMiB) {
			n++
		}
	}
	return n
}
