package patches

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// probes gives Spark's container the startup, readiness and liveness probe of
// the rule, with ports checked and filled in.
//
// A probe of the user's own stands, and he is told if it will harm Spark. A
// probe of the rule is left out where it would do harm on this pod; see unfit.
func probes(p *Pod, c policy.Choice) {
	own := p.ownProbes(c.Rule)
	for _, name := range policy.ProbeNames {
		wanted := *c.Rule.Probes.Named(name)
		switch {
		case own[name] != nil && p.wasSet(name.Field()):
			p.leave(name.Field(), changedByAnother)
		case own[name] != nil:
			p.leave(name.Field(), "the user's own")
			if text := policy.Harm(p.asItWill, name, own[name], c.Published); text != "" {
				p.warn(policy.Warning{Kind: policy.HarmfulProbe, Field: p.fieldPath(name), Text: text})
			}
		case wanted != nil:
			p.injectProbe(name, wanted, c.Rule, len(own) > 0)
		}
	}
}

// ownProbes are the probes that the container has and that are not the rule's,
// injected in an earlier round.
func (p *Pod) ownProbes(rule *policy.Rule) map[policy.ProbeName]*corev1.Probe {
	own := map[policy.ProbeName]*corev1.Probe{}
	for _, name := range policy.ProbeNames {
		existing, wanted := *name.Of(p.Container()), *rule.Probes.Named(name)
		if existing == nil {
			continue
		}
		if wanted != nil {
			if filled, _ := p.fill(wanted); apiequality.Semantic.DeepEqual(existing, filled) {
				continue
			}
		}
		own[name] = existing
	}
	return own
}

func (p *Pod) injectProbe(name policy.ProbeName, wanted *corev1.Probe, rule *policy.Rule, hasOwn bool) {
	filled, missing := p.fill(wanted)
	if *name.Of(p.Container()) != nil { // in an earlier round; see ownProbes
		p.did(name.Field(), probeReason(name, filled, rule))
		return
	}
	if missing != "" {
		why := fmt.Sprintf("the container declares no port %q", missing)
		p.leave(name.Field(), why)
		p.warn(policy.Warning{Kind: policy.ProbeLeftOut, Field: p.fieldPath(name), Text: why + "; the probe of the rule " + rule.Name + " is left out"})
		return
	}
	if why := p.unfit(name, wanted, rule, hasOwn); why != "" {
		p.leave(name.Field(), why)
		return
	}
	p.setProbe(name, filled)
	p.did(name.Field(), probeReason(name, filled, rule))
}

// unfit says why this pod must not have a probe of the rule.
//   - A startup probe holds back the others, and the user's own are to act as he
//     wrote them.
//   - apache/spark-kubernetes-operator ends an application whose driver or
//     executors are not ready in time, and calls one failed whose driver was
//     never ready.
//   - What runs in a container with a command of its own need not be what an exec
//     check was written for.
//   - A liveness probe that asks a port ends a driver that does not listen yet.
//     Where the rule has a startup probe to prevent that, and the container has
//     none, it goes with it.
//   - For ports see unfitPort.
func (p *Pod) unfit(name policy.ProbeName, probe *corev1.Probe, rule *policy.Rule, hasOwn bool) string {
	switch {
	case name == policy.Startup && hasOwn:
		return "it would hold back the user's own probes"
	case name != policy.Liveness && p.OwnedByApacheOperator():
		return "apache/spark-kubernetes-operator ends applications by readiness"
	case probe.Exec != nil && len(p.Container().Command) > 0:
		return "the container has a command of its own"
	case name == policy.Liveness && probe.Exec == nil && rule.Gated() && p.Container().StartupProbe == nil:
		return "without the rule's startup probe it would end a driver that is only starting"
	}
	return p.unfitPort(probe)
}

func (p *Pod) fieldPath(name policy.ProbeName) string {
	return fmt.Sprintf("spec.containers[%s].%s", p.Container().Name, name.Field())
}

// fill returns a copy of the probe with the numbers of declared ports in the
// place of $(port:NAME), and names a port that the container does not declare.
func (p *Pod) fill(probe *corev1.Probe) (filled *corev1.Probe, missing string) {
	if _, port := policy.Target(probe); port != "" && p.PortIndex(port) < 0 {
		missing = port
	}
	filled = probe.DeepCopy()
	if probe.Exec == nil {
		return filled, missing
	}
	for i, arg := range filled.Exec.Command {
		filled.Exec.Command[i] = policy.PortReference.ReplaceAllStringFunc(arg, func(reference string) string {
			port := policy.PortReference.FindStringSubmatch(reference)[1]
			number, ok := p.Port(port)
			if !ok {
				missing = port
			}
			return strconv.Itoa(int(number))
		})
	}
	return filled, missing
}

// unfitPort: with the host's network a port may be another pod's, and Spark
// moves on to the next where it is taken. Most executors declare a port of the
// block manager that they never open.
func (p *Pod) unfitPort(probe *corev1.Probe) string {
	number, name := policy.Target(probe)
	if number == 0 && name == "" && !refersToPort(probe) {
		return ""
	}
	if p.Spec.HostNetwork {
		return "with the host's network the port may be another pod's"
	}
	declared, ok := p.Port(spark.BlockManagerPort)
	asksBlockManager := name == spark.BlockManagerPort || ok && number == declared
	if p.Role != spark.Executor || !asksBlockManager {
		return ""
	}
	if listening, ok := p.BlockManager(); !ok || listening != declared {
		return "the executor's block manager listens on a random port"
	}
	return ""
}

func refersToPort(probe *corev1.Probe) bool {
	if probe.Exec == nil {
		return false
	}
	for _, arg := range probe.Exec.Command {
		if policy.PortReference.MatchString(arg) {
			return true
		}
	}
	return false
}

// probeReason is the rule's reason, with the numbers as they are on this pod.
func probeReason(name policy.ProbeName, probe *corev1.Probe, rule *policy.Rule) string {
	reason := rule.Why[name]
	if reason == "" {
		reason = "as the rule " + rule.Name + " says"
	}
	effect := "ends the container"
	if name == policy.Readiness {
		effect = "not Ready"
	}
	numbers := fmt.Sprintf("; every %d s, %s after %d failures", probe.PeriodSeconds, effect, probe.FailureThreshold)
	if probe.FailureThreshold == policy.NeverGivesUp {
		numbers = fmt.Sprintf("; every %d s, never gives up", probe.PeriodSeconds)
	}
	return reason + numbers
}
