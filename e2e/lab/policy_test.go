package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spark-vitals/spark-vitals/policy"
)

// A fast rule differs from the rule itself in numbers only, so what the stories see
// holds for the rule.
func TestFastRulesDifferInNumbersOnly(t *testing.T) {
	source, err := fastPolicy()
	if err != nil {
		t.Fatal(err)
	}
	fast, err := policy.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	strict, err := policy.Parse([]byte("ruleSet: strict"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, rule := range fast.Rules() {
		name, isFast := strings.CutPrefix(rule.Name, "fast-")
		if !isFast {
			continue
		}
		for _, want := range strict.Rules() {
			if strings.ReplaceAll(want.Name, "/", "-") != name {
				continue
			}
			compared++
			if diff := cmp.Diff(withoutNumbers(want.Probes), withoutNumbers(rule.Probes)); diff != "" {
				t.Errorf("%s (-strict +fast):\n%s", name, diff)
			}
		}
	}
	if compared != 3 {
		t.Errorf("compared %d rules, want both of drivers and one of executors", compared)
	}
}

func withoutNumbers(p policy.Probes) policy.Probes {
	if p.Startup != nil {
		p.Startup = p.Startup.DeepCopy()
		p.Startup.InitialDelaySeconds, p.Startup.PeriodSeconds, p.Startup.FailureThreshold = 0, 0, 0
	}
	if p.Liveness != nil {
		p.Liveness = p.Liveness.DeepCopy()
		p.Liveness.TimeoutSeconds, p.Liveness.PeriodSeconds, p.Liveness.FailureThreshold = 0, 0, 0
		for i, arg := range p.Liveness.Exec.Command {
			p.Liveness.Exec.Command[i] = strings.NewReplacer("-t 10", "-t N", "-t 3", "-t N", "for 10 s", "for N s", "for 3 s", "for N s").Replace(arg)
		}
	}
	return p
}
