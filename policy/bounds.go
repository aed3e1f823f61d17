package policy

import "sort"

// Bounds is what the numbers of a rule's probe must keep, together, so that the probe
// does no harm.
type Bounds struct {
	// LeastSeconds is the least initialDelaySeconds + periodSeconds * failureThreshold of
	// a probe that ends the container. A startup probe that never gives up ends none.
	LeastSeconds int64
	// MostUnready is the most initialDelaySeconds + periodSeconds * successThreshold.
	MostUnready int64
}

// Bounds returns what [Policy.For] demands of the numbers that a pod sets. They are found
// by asking the judge of rules, which only knows single probes.
func (r *Rule) Bounds(name ProbeName) Bounds {
	accepts := func(delay, threshold int) bool {
		p := (*r.Probes.Named(name)).DeepCopy()
		p.InitialDelaySeconds, p.PeriodSeconds, p.SuccessThreshold, p.FailureThreshold = int32(delay), 1, 1, int32(threshold)
		return len(r.checkProbe(name, p, nil)) == 0
	}
	least := sort.Search(NeverGivesUp, func(n int) bool { return accepts(0, n) })
	unready := sort.Search(NeverGivesUp, func(n int) bool { return !accepts(n, NeverGivesUp) })
	return Bounds{LeastSeconds: int64(least), MostUnready: int64(unready)}
}
