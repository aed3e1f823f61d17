package patches

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// probes gives Spark's container the startup, readiness and liveness probe of the rule,
// with ports checked and filled in.
//
// It leaves a probe of the user alone, and warns if the probe is certain to harm Spark.
// It leaves out a probe of the rule that would do harm on this pod; see unfit.
func probes(p *Pod, c policy.Choice) {
	own := p.ownProbes(c.Rule)
	for _, name := range policy.ProbeNames {
		wanted := *c.Rule.Probes.Named(name)
		switch {
		case own[name] != nil && p.wasSet(name.Field()):
			p.leave(name.Field(), annotations.ChangedByAnother)
		case own[name] != nil:
			p.leave(name.Field(), "the user's own")
			if kind, text := policy.Harm(p.effective, name, own[name], c.Published); text != "" {
				p.warn(policy.Warning{Kind: kind, Field: p.fieldPath(name), Text: text})
			}
		case wanted != nil:
			p.injectProbe(name, wanted, c.Rule, p.anyActs(own))
		}
	}
}

// ownProbes returns the container's probes without those of the rule, which an earlier
// round injected.
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

// anyActs reports whether the kubelet can run any of the probes. It cannot if the
// container does not declare the port that is named.
func (p *Pod) anyActs(own map[policy.ProbeName]*corev1.Probe) bool {
	for _, probe := range own {
		if _, port := policy.Target(probe); port == "" || p.PortIndex(port) >= 0 {
			return true
		}
	}
	return false
}

func (p *Pod) injectProbe(name policy.ProbeName, wanted *corev1.Probe, rule *policy.Rule, ownActs bool) {
	filled, missing := p.fill(wanted)
	if *name.Of(p.Container()) != nil { // in an earlier round; see ownProbes
		p.did(name.Field(), probeReason(name, filled, rule))
		return
	}
	if why := p.unfit(name, wanted, rule, ownActs); why != "" {
		p.leave(name.Field(), why)
		return
	}
	if missing != "" {
		p.leaveWithoutPort(name, missing, rule)
		return
	}
	p.setProbe(name, filled)
	p.did(name.Field(), probeReason(name, filled, rule))
}

// leaveWithoutPort leaves a probe out because its port is not declared. It warns only
// if the container declares other ports of Spark by their names. If all of them have
// other names, or none is declared, the pod was built by hand, and its users cannot
// change that.
func (p *Pod) leaveWithoutPort(name policy.ProbeName, missing string, rule *policy.Rule) {
	why := fmt.Sprintf("the container declares no port %q", missing)
	p.leave(name.Field(), why)
	for sparks := range spark.DefaultPorts {
		if p.PortIndex(sparks) >= 0 {
			p.warn(policy.Warning{Kind: policy.ProbeLeftOut, Field: p.fieldPath(name), Text: why + ", so the probe of the rule " + rule.Name + " is left out"})
			return
		}
	}
}

// unfit returns why this pod must not have a probe of the rule.
//   - A startup probe holds back the others, and the user's own that the kubelet can run
//     must act as they are written.
//   - apache/spark-kubernetes-operator ends an application if its driver or executors are
//     not ready in time, and calls one failed if its driver was never ready.
//   - An exec check may not be written for a container with a command of its own.
//   - A liveness probe that asks a port ends a driver that does not listen yet. If the
//     rule has a startup probe to prevent that, and the container has none, the liveness
//     probe is left out too.
//   - For ports see unfitPort.
func (p *Pod) unfit(name policy.ProbeName, probe *corev1.Probe, rule *policy.Rule, ownActs bool) string {
	switch {
	case p.Spec.HostNetwork && asksPort(probe):
		return "with the host's network the port may be another pod's"
	case name == policy.Startup && ownActs:
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

// fill returns a copy of the probe with the numbers of declared ports instead of
// $(port:NAME), and the name of a port that the container does not declare.
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

// unfitPort returns why a probe does not fit the block manager's port: most executors
// declare one that they never open.
func (p *Pod) unfitPort(probe *corev1.Probe) string {
	number, name := policy.Target(probe)
	declared, ok := p.Port(spark.BlockManagerPort)
	asksBlockManager := ok && (name == spark.BlockManagerPort || number == declared)
	if p.Role != spark.Executor || !asksBlockManager {
		return ""
	}
	if listening, ok := p.BlockManager(); !ok || listening != declared {
		return "the executor's block manager listens on a random port"
	}
	return ""
}

// asksPort reports whether the kubelet, or the command of an exec probe, asks a port
// of the pod. With the host's network it may be another pod's, and Spark takes the
// next one if it is taken.
func asksPort(probe *corev1.Probe) bool {
	number, name := policy.Target(probe)
	return number != 0 || name != "" || probe.Exec != nil && slices.ContainsFunc(probe.Exec.Command, policy.PortReference.MatchString)
}

// probeReason returns the rule's reason, with the numbers as they are on this pod.
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
