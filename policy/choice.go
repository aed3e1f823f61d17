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

// Mode is how far a pod is touched.
type Mode string

// The modes, as the namespace's label and the pod's annotation spell them.
const (
	Disabled Mode = "disabled"
	Audit    Mode = "audit" // stamps say what would be done, and nothing is done
	Enabled  Mode = "enabled"
)

var modes = []Mode{Disabled, Audit, Enabled} // the later, the more is done

// Choice is what the policy says of one pod or Service.
type Choice struct {
	Mode Mode
	Rule *Rule // nil where no rule matches or the mode is Disabled: nothing is done
	// Warnings about settings that could not be read and were ignored.
	Warnings []Warning
}

// For chooses the rule of a pod in a namespace of that mode. The pod's
// annotations can lower the mode (inject: audit or disabled), choose a rule or a
// ready-made rule set by name (rule: ui), set any number of a probe
// (liveness.periodSeconds: "30") and turn probes and switches off or on
// (liveness: "false").
func (p *Policy) For(pod spark.Pod, namespace Mode) Choice {
	return p.choose(pod.Annotations, namespace, subject{
		role:      pod.Role,
		labels:    pod.Labels,
		mainClass: pod.MainClass,
		version:   sync.OnceValue(func() *semver.Version { return sparkVersion(pod.Version()) }),
	})
}

// ForService chooses the rule of a driver's Service. Spark makes its selector
// of all the driver's labels, so they are known; the main class is not.
func (p *Policy) ForService(service *corev1.Service, namespace Mode) Choice {
	selector := service.Spec.Selector
	return p.choose(service.Annotations, namespace, subject{
		role:    spark.Driver,
		labels:  labels.Set(selector),
		version: sync.OnceValue(func() *semver.Version { return sparkVersion(selector[spark.VersionLabel]) }),
	})
}

func (p *Policy) choose(settings map[string]string, namespace Mode, s subject) (c Choice) {
	c.Mode, c.Warnings = lower(namespace, settings)
	if c.Mode == Disabled {
		return c
	}
	c.Rule = first(p.rules, s)
	if name, ok := settings[annotations.Rule]; ok {
		if rule := p.named(name, s); rule != nil {
			c.Rule = rule
		} else {
			c.Warnings = append(c.Warnings, settingWarning(annotations.Rule, name, "there is no such rule for role "+string(s.role)+
				", and no such rule set; there are "+strings.Join(RuleSets, ", ")))
		}
	}
	if c.Rule != nil && len(settingKeys(settings)) > 0 {
		own := *c.Rule
		c.Rule, c.Warnings = &own, append(c.Warnings, own.apply(settings)...)
	}
	return c
}

// lower is the lesser of what the namespace and the pod ask for.
func lower(namespace Mode, settings map[string]string) (Mode, []Warning) {
	value, ok := settings[annotations.Inject]
	if !ok {
		return namespace, nil
	}
	asked := slices.Index(modes, Mode(value))
	if asked < 0 {
		return namespace, []Warning{settingWarning(annotations.Inject, value, "must be disabled, audit or enabled")}
	}
	return modes[min(asked, slices.Index(modes, namespace))], nil
}

// first is the first rule that matches. Where the main class is not known,
// several may be meant; then one that publishes the driver's address wins,
// because that protects and changes nothing but DNS.
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

// named is the rule that a pod asks for by name, whatever else the rule matches
// by, or the one that matches it in a ready-made set.
func (p *Policy) named(name string, s subject) *Rule {
	for _, rule := range p.rules {
		if rule.Name == name && rule.Match.Role == s.role {
			return rule
		}
	}
	return first(p.sets[name], s)
}
