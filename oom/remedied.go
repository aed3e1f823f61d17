package oom

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedies reports whether later executors are to get fewer cores than the one that
// died was created with.
func (r *Record) remedies(t *Termination) bool {
	return t.Role == spark.Executor && slices.ContainsFunc(r.Remedy, func(p annotations.RemedyPlan) bool {
		return p.Mode == annotations.Enabled && p.Changes() && p.Profile == t.ResourceProfile()
	})
}

// ExplainRemedy returns a few sentences on what later executors of the driver's
// application are to get.
func ExplainRemedy(p annotations.RemedyPlan, driver spark.Pod) string {
	s := settingsOf(p, driver, &named{})
	return words([]string{remedied(p, s), s.where()})
}

// settingsOf names settings of the executors that a plan is for.
func settingsOf(p annotations.RemedyPlan, driver spark.Pod, together *named) *settings {
	s := &settings{role: spark.Executor, submitter: driver.Submitter(), engine: driver.IsKyuubiEngine(), named: together}
	if p.Profile != "0" {
		s.profile = p.Profile
	}
	return s
}

// remedied returns what later executors are to get, and why nothing more. Whether they
// get it shows in their own stamp: the webhook may not know the plan in time.
func remedied(p annotations.RemedyPlan, s *settings) string {
	of := ""
	if s.profile != "" {
		of = " of resource profile " + s.profile
	}
	changes, refused := "", ""
	switch {
	case p.Changes() && p.Mode == annotations.Enabled:
		changes = fmt.Sprintf("Remedy: new executors%s are to start with %s instead of %d, so that fewer tasks share the memory.", of, cores(p.ToCores), p.FromCores)
		key, value := s.name("cores"), strconv.Itoa(p.ToCores)
		s.example(key, value)
		changes += fmt.Sprintf(" To keep that in later runs, set %s=%s.", key, value)
	case p.Changes():
		changes = fmt.Sprintf("If the remedy were enabled, new executors%s would start with %s instead of %d, so that fewer tasks share the memory.", of, cores(p.ToCores), p.FromCores)
	}
	if p.Refused != "" {
		more := "nothing"
		if p.Changes() {
			more = "nothing more"
		}
		does := "The remedy does"
		if p.Mode == annotations.Audit {
			does = "If the remedy were enabled, it would do"
		}
		refused = fmt.Sprintf("%s %s for executors%s: %s.", does, more, of, p.Refused)
	}
	return join(changes, refused)
}

func cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}
