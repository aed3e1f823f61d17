package policy

import (
	"testing"

	"pgregory.net/rapid"
)

// Numbers within the bounds of a probe are those that the judge of rules accepts.
func TestBounds(t *testing.T) {
	var rules []*Rule
	for _, set := range RuleSets {
		rules = append(rules, RulesOf(set)...)
	}
	number := rapid.OneOf(rapid.Int32Range(1, 4), rapid.Int32Range(1, 700), rapid.Just(int32(NeverGivesUp)))
	rapid.Check(t, func(t *rapid.T) {
		rule, name := rapid.SampledFrom(rules).Draw(t, "rule"), rapid.SampledFrom(ProbeNames).Draw(t, "probe")
		if *rule.Probes.Named(name) == nil {
			t.Skip()
		}
		p := (*rule.Probes.Named(name)).DeepCopy()
		p.InitialDelaySeconds, p.PeriodSeconds, p.FailureThreshold = number.Draw(t, "delay")-1, number.Draw(t, "period"), number.Draw(t, "failures")
		if name == Readiness {
			p.SuccessThreshold = number.Draw(t, "successes")
		}
		b := rule.Bounds(name)
		ends := name == Liveness || name == Startup && p.FailureThreshold != NeverGivesUp
		seconds := func(threshold int32) int64 {
			return int64(p.InitialDelaySeconds) + int64(p.PeriodSeconds)*int64(threshold)
		}
		within := (!ends || seconds(p.FailureThreshold) >= b.LeastSeconds) && (b.MostUnready == NeverGivesUp || seconds(p.SuccessThreshold) <= b.MostUnready)
		if errs := rule.checkProbe(name, p, nil); within != (len(errs) == 0) {
			t.Fatalf("%s of %s, %+v: within is %v, judged %v", name, rule.Name, b, within, errs)
		}
	})
}
