package policy

import (
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Mode is how much is done to a pod.
type Mode = annotations.Mode

// The modes.
const (
	Disabled = annotations.Disabled
	Audit    = annotations.Audit
	Enabled  = annotations.Enabled
)

var modes = []Mode{Disabled, Audit, Enabled} // the later, the more is done

// Choice is what the policy chose for a pod or Service.
type Choice struct {
	Mode Mode
	// Rule is the rule that applies. It has no name and no content if none matches. It
	// is nil if the mode is Disabled: nothing is done.
	Rule *Rule
	// Published is true if the driver's Service will publish addresses that are not
	// ready, by the Service's own rule.
	Published bool
	// Plan is what the executor is to get because earlier ones died, or nil.
	Plan *annotations.RemedyPlan
	// Memory is what the driver is to get because that of an earlier run died, or nil.
	Memory *annotations.RemedyMemory
	// NoRemedy is why neither can be known, or is given; or "".
	NoRemedy string
	// Warnings are about settings that are ignored.
	Warnings []Warning
}

// For chooses the rule of a pod in a namespace of that mode. The pod's
// annotations can lower the mode (inject: audit or disabled), choose a rule or a
// ready-made rule set by name (rule: ui), set any number of a probe
// (liveness.periodSeconds: "30") and turn probes and switches off or on
// (liveness: "false").
func (p *Policy) For(pod spark.Pod, namespace Mode) Choice {
	s := subject{
		role:      pod.Role,
		labels:    pod.Labels,
		mainClass: pod.MainClass,
		version:   sync.OnceValue(func() *semver.Version { return spark.ParseVersion(pod.Version()) }),
	}
	c := p.choose(pod.Annotations, namespace, s, podOf(pod.Role))
	if pod.Role == spark.Driver && namespace == Enabled {
		s.mainClass = nil // as its Service shows it
		rule := first(p.rules, s)
		c.Published = rule != nil && rule.PublishNotReadyAddresses
	}
	return c
}

// ForService chooses the rule of a driver's Service. Spark makes its selector of all
// the driver's labels, so they are known. The main class and the driver's annotations
// are not. The Service's own annotations are read as a pod's are.
func (p *Policy) ForService(service *corev1.Service, namespace Mode) Choice {
	selector := service.Spec.Selector
	return p.choose(service.Annotations, namespace, subject{
		role:    spark.Driver,
		labels:  labels.Set(selector),
		version: sync.OnceValue(func() *semver.Version { return spark.ParseVersion(selector[spark.VersionLabel]) }),
	}, driverService)
}

func (p *Policy) choose(settings map[string]string, namespace Mode, s subject, on object) (c Choice) {
	c.Mode, c.Warnings = lower(namespace, settings)
	if c.Mode == Disabled {
		return c
	}
	c.Rule = first(p.rules, s)
	if name, ok := settings[annotations.Rule]; ok {
		if rule := p.named(name, s); rule != nil {
			c.Rule = rule
		} else {
			c.Warnings = append(c.Warnings, settingWarning(SettingIgnored, annotations.Rule, name,
				"no rule and no rule set has this name; the names are "+strings.Join(p.namesFor(s.role), ", ")))
		}
	}
	if c.Rule == nil {
		c.Rule = &Rule{Match: Match{Role: s.role}}
	}
	if changes := settingsIn(settings); len(changes) > 0 {
		own := *c.Rule
		c.Rule, c.Warnings = &own, append(c.Warnings, own.apply(changes, on)...)
	}
	return c
}

// namesFor returns the names by which a pod of that role can choose a rule.
func (p *Policy) namesFor(role spark.Role) []string {
	all := slices.Clone(RuleSets)
	for _, rule := range p.rules {
		if rule.Match.Role == role && !strings.Contains(rule.Name, "/") {
			all = append(all, rule.Name)
		}
	}
	return all
}

// lower returns the lower mode of the namespace's and the pod's.
func lower(namespace Mode, settings map[string]string) (Mode, []Warning) {
	value, ok := settings[annotations.Inject]
	if !ok {
		return namespace, nil
	}
	asked := slices.Index(modes, Mode(value))
	if asked < 0 {
		return namespace, []Warning{settingWarning(SettingIgnored, annotations.Inject, value, "must be disabled, audit or enabled")}
	}
	return modes[min(asked, slices.Index(modes, namespace))], nil
}

// first returns the first rule that matches. If the main class is not known, several
// rules may be the right one. Then a rule that publishes the driver's address comes
// first, because that protects and changes nothing but DNS.
func first(rules []*Rule, s subject) (found *Rule) {
	for _, rule := range rules {
		if !rule.Match.matches(s) {
			continue
		}
		if found == nil || rule.PublishNotReadyAddresses {
			found = rule
		}
		if s.mainClass != nil || rule.Match.MainClass == "" || found.PublishNotReadyAddresses {
			break
		}
	}
	return found
}

// named returns the rule that a pod chooses by name, even if the rule does not match
// it otherwise, or the one that matches it in a ready-made set.
func (p *Policy) named(name string, s subject) *Rule {
	for _, rule := range p.rules {
		if rule.Name == name && rule.Match.Role == s.role {
			return rule
		}
	}
	return first(p.sets[name], s)
}
