package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Fast is the label of drivers with a faster default rule: a frozen driver is ended
// after 15 s instead of ten minutes. What the rule finds and spares is the same.
var Fast = map[string]string{"spark.kubernetes.driver.label." + FastLabel: "true"}

// FastLabel is the label of pods with the fast rules.
const FastLabel = "e2e-fast"

// The numbers of the fast probes.
const (
	FastPeriod    = 5 // seconds
	FastThreshold = 3
	FastTimeout   = 4  // seconds
	FastLimit     = 3  // seconds that the check itself waits
	FastStart     = 15 // seconds that an executor has before its first check
)

// RemedyLabel is the label of pods whose rule has a remedy. Its value is one of remedies.
// Of a driver it is "next".
const RemedyLabel = "e2e-remedy"

var ceiling = resource.MustParse("3Gi")

var remedies = map[string]policy.Remedy{
	"enabled": {Mode: policy.Enabled},
	"memory":  {Mode: policy.Enabled, MaxMemory: &ceiling},
	"next":    {Mode: policy.Enabled, MaxMemory: &ceiling, NextRun: policy.Enabled},
}

// remedyRules returns the executor rules of a policy with each remedy, and its driver rules
// with that of the next run.
func remedyRules(of *policy.Policy) (rules []policy.Rule) {
	for _, name := range slices.Sorted(maps.Keys(remedies)) {
		for _, rule := range of.Rules() {
			if rule.Match.Role != spark.Executor && name != "next" {
				continue
			}
			own := *rule
			own.Name = fmt.Sprintf("remedy-%s-%s", name, strings.ReplaceAll(rule.Name, "/", "-"))
			given := remedies[name]
			own.Remedy = &given
			if own.Match.Role == spark.Driver {
				own.Remedy = &policy.Remedy{MaxMemory: &ceiling, NextRun: policy.Enabled}
			}
			own.Probes.Startup = nil
			labels := rule.Match.Labels.DeepCopy()
			if labels == nil {
				labels = &metav1.LabelSelector{}
			}
			labels.MatchLabels = map[string]string{RemedyLabel: name}
			own.Match.Labels = labels
			rules = append(rules, own)
		}
	}
	return rules
}

// fastPolicy returns the default policy with fast rules in front: each driver rule of
// "default" with a faster liveness probe, and the executor rule of "strict" with 30 s
// to register. Rules with a remedy follow.
func fastPolicy() ([]byte, error) {
	strict, err := policy.Parse([]byte("ruleSet: strict"))
	if err != nil {
		return nil, err
	}
	var rules []policy.Rule
	for _, rule := range strict.Rules() {
		fast := *rule
		switch {
		case rule.Match.Role == spark.Driver && rule.Probes.Liveness != nil:
			fast.Probes.Liveness = rule.Probes.Liveness.DeepCopy()
			p := fast.Probes.Liveness
			p.PeriodSeconds, p.FailureThreshold, p.TimeoutSeconds = FastPeriod, FastThreshold, FastTimeout
			for i, arg := range p.Exec.Command {
				p.Exec.Command[i] = strings.NewReplacer("-t 10", "-t 3", "for 10 s", "for 3 s").Replace(arg)
			}
		case rule.Match.Role == spark.Executor && rule.Probes.Startup != nil:
			fast.Probes.Startup = rule.Probes.Startup.DeepCopy()
			p := fast.Probes.Startup
			p.InitialDelaySeconds, p.PeriodSeconds, p.FailureThreshold = FastStart, FastPeriod, FastThreshold
		default:
			continue
		}
		fast.Name, fast.AcceptEarlyEnd = "fast-"+strings.ReplaceAll(rule.Name, "/", "-"), true
		fast.Match.Labels = &metav1.LabelSelector{MatchLabels: map[string]string{FastLabel: "true"}}
		rules = append(rules, fast)
	}
	rules = append(rules, remedyRules(strict)...)
	if len(rules) == 0 {
		return nil, errors.New("the rule set strict has no rule to run fast")
	}
	return yaml.Marshal(map[string]any{"ruleSet": "default", "rules": rules})
}
