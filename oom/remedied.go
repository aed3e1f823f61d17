package oom

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// raised returns how the memory of the executor was raised when it was created, or nil.
func (t *Termination) raised() *annotations.RemedyMemory {
	if t.Remedied == nil {
		return nil
	}
	return t.Remedied.Memory
}

// beyond advises more memory beside the heap than a remedy gave.
func (a *adviser) beyond(name string, given annotations.RemedyMemory) string {
	heap := given.ToHeapMiB - given.FromHeapMiB
	by := given.ToLimitMiB - given.FromLimitMiB - heap + roundUp(max(a.smaller()/4, minOverhead), 128)
	text := a.raise(name, by)
	if heap > 0 {
		larger := a.set(Change{Setting: a.name("memory"), Now: Memory(given.FromHeapMiB), Next: Memory(given.ToHeapMiB)})
		text += " and " + lower(larger)
	}
	return text + a.fewerCores() + "."
}

// remedies reports whether later executors are to get fewer cores, so that the advice
// needs not say it.
func (r *Record) remedies(t *Termination) bool {
	return t.Role == spark.Executor && r.Driver == nil && slices.ContainsFunc(r.Remedy, func(p annotations.RemedyPlan) bool {
		return p.Mode == annotations.Enabled && p.FewerCores() && p.Profile == t.ResourceProfile() && !t.At.After(p.Until)
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
	of, audit := "", p.Mode == annotations.Audit
	if s.profile != "" {
		of = " of resource profile " + s.profile
	}
	changes, withdrawn, refused := "", "", ""
	switch {
	case !p.Changes():
	case audit:
		changes = fmt.Sprintf("If the remedy were enabled, new executors%s would start with %s.", of, given(p))
	case p.Run != "":
		changes = fmt.Sprintf("Remedy: executors%s start with %s, because run %s of the same job needed it.%s", of, given(p), p.Run, keep(p, s))
	default:
		changes = fmt.Sprintf("Remedy: until %s new executors%s are to start with %s.%s", p.Until.UTC().Format("2006-01-02 15:04 UTC"), of, given(p), keep(p, s))
	}
	if p.Withdrawn != "" {
		withdrawn = fmt.Sprintf("Executors%s no longer get more memory: %s.", of, p.Withdrawn)
	}
	if p.Refused != "" {
		more, does := "nothing", "The remedy does"
		if p.Changes() {
			more = "nothing more"
		}
		if audit {
			does = "If the remedy were enabled, it would do"
		}
		refused = fmt.Sprintf("%s %s for executors%s: %s.", does, more, of, p.Refused)
	}
	return join(changes, withdrawn, refused)
}

// given lists what an executor is to get: "1 core instead of 4".
func given(p annotations.RemedyPlan) string {
	fewer, memory := "", ""
	if p.FewerCores() {
		fewer = fmt.Sprintf("%s instead of %d", cores(p.ToCores), p.FromCores)
	}
	if p.MoreMemory() {
		memory = fmt.Sprintf("a memory limit of %d MiB instead of %d", p.Memory.ToLimitMiB, p.Memory.FromLimitMiB)
		if p.Memory.ToHeapMiB > p.Memory.FromHeapMiB {
			memory += fmt.Sprintf(" (heap %d instead of %d)", p.Memory.ToHeapMiB, p.Memory.FromHeapMiB)
		}
	}
	switch {
	case memory == "":
		return fewer + ", so that fewer tasks share the memory"
	case fewer == "":
		return memory
	}
	return fewer + " and with " + memory
}

// keep returns which setting gives the executors of later runs as few cores. What
// memory to set says the advice.
func keep(p annotations.RemedyPlan, s *settings) string {
	if !p.FewerCores() {
		return ""
	}
	key, value := s.name("cores"), strconv.Itoa(p.ToCores)
	s.example(key, value)
	return fmt.Sprintf(" To keep the cores in later runs, set %s=%s.", key, value)
}

func cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}
