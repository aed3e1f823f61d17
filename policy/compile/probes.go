package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// variant is a probe, with the names of the rules that have it.
type variant struct {
	name  policy.ProbeName
	role  spark.Role
	probe *corev1.Probe
	// gated is true if the rule has a startup probe that holds this one back.
	gated  bool
	bounds policy.Bounds
	why    string
	rules  []string
}

// variantsOf returns the different probes of a name.
func variantsOf(p *policy.Policy, role spark.Role, name policy.ProbeName) (all []*variant) {
	for _, rule := range rulesOf(p, role) {
		probe := *rule.Probes.Named(name)
		if probe == nil {
			continue
		}
		v := variant{name, role, probe, rule.Gated(), rule.Bounds(name), rule.Why[name], nil}
		i := slices.IndexFunc(all, func(other *variant) bool { return other.key() == v.key() })
		if i < 0 {
			i, all = len(all), append(all, &v)
		}
		all[i].rules = append(all[i].rules, rule.Name)
	}
	return all
}

// key is equal for variants that differ only in their reasons.
func (v *variant) key() string {
	data, _ := json.Marshal(v.probe)
	return fmt.Sprint(string(data), v.gated, v.bounds)
}

func (v *variant) applies() string { return "variables.rule in " + texts(v.rules) }

// probes says what patches.probes does.
func probes(p *policy.Policy, role spark.Role) []variable {
	ports := "{p.name: p.containerPort}"
	if role == spark.Executor {
		ports = "{p.name: variables.movesPort && p.name == '" + spark.BlockManagerPort + "' ? variables.port : p.containerPort}"
	}
	all := []variable{
		{"ports", "The ports that Spark's container declares, after the changes.", `
variables.container.?ports.orValue([]).filter(p, has(p.name) && p.?protocol.orValue('TCP') == 'TCP').transformMapEntry(i, p, ` + ports + `)`},
		{"operated", "apache/spark-kubernetes-operator ends applications by readiness.", `
'spark.operator/spark-app-name' in variables.labels ||
object.metadata.?ownerReferences.orValue([]).exists(o, o.apiVersion.matches('^(spark[.]apache[.]org|org[.]apache[.]spark)/[^/]*$'))`},
	}
	for _, name := range policy.ProbeNames {
		all = append(all, numbersOf(name, variantsOf(p, role, name))...)
	}
	all = append(all,
		variable{"probes", "The rule's probes that the pod does not turn off.", "{" + join(policy.ProbeNames, func(n policy.ProbeName) string { return "'" + n.Field() + "': dyn(variables." + string(n) + ")" }) + "}.transformMap(f, probe, size(probe) > 0, probe)"},
		variable{"own", "The probes that differ from the rule's: the user's own.", `
['startupProbe', 'readinessProbe', 'livenessProbe'].filter(f, f in variables.container && variables.container[f] != variables.probes[?f].orValue({}))`},
		variable{"ownActs", "Whether the kubelet can run one of them: it knows the port.", `
variables.own.exists(f, [variables.container[f].?httpGet.?port, variables.container[f].?tcpSocket.?port]
  .all(port, !port.hasValue() || type(port.value()) != string || port.value() == '' || port.value() in variables.ports))`},
	)
	for _, name := range policy.ProbeNames {
		all = append(all, outcome(name, variantsOf(p, role, name)))
	}
	return all
}

// numberNames are the numbers of a probe.
var numberNames = []string{"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold", "terminationGracePeriodSeconds"}

// numbersOf returns the variables of a rule's probe with the numbers that the pod sets, if
// all can be read and they are right together.
func numbersOf(name policy.ProbeName, variants []*variant) []variable {
	if len(variants) == 0 {
		return []variable{{string(name), "No rule has a " + string(name) + " probe.", "{}"}}
	}
	var right, probe []branch
	var why []string
	for _, v := range variants {
		right = append(right, branch{v.applies(), and(v.right()...)})
		probe = append(probe, branch{v.applies(), v.literal()})
		why = append(why, strings.Join(v.rules, ", ")+": "+v.why)
	}
	asked := string(name) + "Asked"
	return []variable{
		{asked, "The numbers that the pod sets, if all can be read.", strings.ReplaceAll(`
[`+texts(numberNames)+`.filter(n, 'PROBE.' + n in variables.settings)]
  .filter(given, given.all(n, variables.settings['PROBE.' + n].matches('^[+]?[0-9]{1,18}$') &&
    int(variables.settings['PROBE.' + n]) <= 2147483647 && (int(variables.settings['PROBE.' + n]) > 0 || n == 'initialDelaySeconds')))
  .map(given, given.transformMapEntry(i, n, {n: int(variables.settings['PROBE.' + n])}))[?0].orValue({})`, "PROBE", string(name))},
		{string(name) + "Numbers", "They count if they do no harm together.", "[" + choose(right, "false") + "].filter(right, right).map(right, variables." + asked + ")[?0].orValue({})"},
		{string(name), strings.Join(why, "\n"), "variables.settings[?" + text(string(name)) + "].orValue('') == 'false' ? {} :\n" + choose(probe, "{}")},
	}
}

// number returns one of the probe's numbers: what the pod asks for, or the rule's.
func (v *variant) number(name, of string) string {
	return fmt.Sprintf("variables.%s%s[?'%s'].orValue(%d)", v.name, of, name, v.numbers()[name])
}

func (v *variant) numbers() map[string]int64 {
	p := v.probe
	n := map[string]int64{
		"initialDelaySeconds": int64(p.InitialDelaySeconds), "timeoutSeconds": int64(p.TimeoutSeconds), "periodSeconds": int64(p.PeriodSeconds),
		"successThreshold": int64(p.SuccessThreshold), "failureThreshold": int64(p.FailureThreshold),
	}
	if p.TerminationGracePeriodSeconds != nil {
		n["terminationGracePeriodSeconds"] = *p.TerminationGracePeriodSeconds
	}
	return n
}

// right returns what must hold for numbers that a pod sets; see [policy.Rule.Bounds].
func (v *variant) right() (all []string) {
	number := func(name string) string { return v.number(name, "Asked") }
	if v.name != policy.Readiness {
		all = append(all, number("successThreshold")+" == 1")
	} else {
		all = append(all, "!('terminationGracePeriodSeconds' in variables.readinessAsked)")
	}
	if least := v.bounds.LeastSeconds; least > 0 {
		enough := fmt.Sprintf("%s + %s * %s >= %d", number("initialDelaySeconds"), number("periodSeconds"), number("failureThreshold"), least)
		if v.name == policy.Startup {
			enough = fmt.Sprintf("(%s == %d || %s)", number("failureThreshold"), policy.NeverGivesUp, enough)
		}
		all = append(all, enough)
	}
	if most := v.bounds.MostUnready; most < policy.NeverGivesUp {
		all = append(all, fmt.Sprintf("%s + %s * %s <= %d", number("initialDelaySeconds"), number("periodSeconds"), number("successThreshold"), most))
	}
	return all
}

// literal returns the probe as a map, as the API server shows it: without zeros.
func (v *variant) literal() string {
	data, _ := json.Marshal(v.probe)
	var fields map[string]any
	_ = json.Unmarshal(data, &fields) // what was just made of a probe
	for _, n := range numberNames {
		delete(fields, n)
	}
	all := []string{strings.TrimSuffix(strings.TrimPrefix(literal(fields, filled), "{"), "}")}
	for _, n := range numberNames {
		all = append(all, fmt.Sprintf("'%s': dyn(%s)", n, v.number(n, "Numbers")))
	}
	return "{\n  " + strings.Join(all, ",\n  ") + "\n}.transformMap(field, value, value != 0, value)"
}

// filled returns a text with the numbers of declared ports instead of $(port:NAME).
func filled(s string) string {
	var parts []string
	end := 0 // of the last reference
	for _, found := range policy.PortReference.FindAllStringSubmatchIndex(s, -1) {
		parts = append(parts, text(s[end:found[0]]), "string(variables.ports[?"+text(s[found[2]:found[3]])+"].orValue(0))")
		end = found[1]
	}
	return strings.Join(append(parts, text(s[end:])), " + ")
}

// outcome returns what becomes of a probe.
func outcome(name policy.ProbeName, variants []*variant) variable {
	field := name.Field()
	var left []branch
	for _, v := range variants {
		left = append(left, branch{v.applies(), "(" + choose(v.unfit(), "'set'") + ")"})
	}
	return variable{field, "What becomes of the probe.", strings.NewReplacer("FIELD", field, "CHANGED", text(annotations.ChangedByAnother)).Replace(`
'FIELD' in variables.own ? (variables.earlier.contains('"FIELD"') ? CHANGED : "the user's own") :
!('FIELD' in variables.probes) ? '' :
'FIELD' in variables.container ? 'set' :
`) + choose(left, "''")}
}

// unfit returns why pods must not have the probe; see patches.unfit.
func (v *variant) unfit() (all []branch) {
	number, name := policy.Target(v.probe)
	references := v.references()
	if number != 0 || name != "" || len(references) > 0 {
		all = append(all, branch{"variables.hostNetwork", text("with the host's network the port may be another pod's")})
	}
	if v.name == policy.Startup {
		all = append(all, branch{"variables.ownActs", text("it would hold back the user's own probes")})
	}
	if v.name != policy.Liveness {
		all = append(all, branch{"variables.operated", text("apache/spark-kubernetes-operator ends applications by readiness")})
	}
	if v.probe.Exec != nil {
		all = append(all, branch{"variables.hasCommand", text("the container has a command of its own")})
	}
	if v.name == policy.Liveness && v.probe.Exec == nil && v.gated {
		all = append(all, branch{"!('startupProbe' in variables.container) && variables.startupProbe != 'set'", text("without the rule's startup probe it would end a driver that is only starting")})
	}
	if v.role == spark.Executor && (name == spark.BlockManagerPort || number != 0) {
		asks := "'" + spark.BlockManagerPort + "' in variables.ports"
		if number != 0 {
			asks = fmt.Sprintf("variables.ports[?'%s'].orValue(0) == %d", spark.BlockManagerPort, number)
		}
		all = append(all, branch{asks + " && variables.blockManagerPort != 'set' && variables.listens != variables.declares", text("the executor's block manager listens on a random port")})
	}
	if name != "" {
		references = append([]string{name}, references...)
	}
	for _, port := range slices.Backward(references) {
		all = append(all, branch{"!(" + text(port) + " in variables.ports)", text(fmt.Sprintf("the container declares no port %q", port))})
	}
	return all
}

// references returns the ports whose numbers an exec probe asks for.
func (v *variant) references() (ports []string) {
	if v.probe.Exec == nil {
		return nil
	}
	for _, arg := range v.probe.Exec.Command {
		for _, found := range policy.PortReference.FindAllStringSubmatch(arg, -1) {
			ports = append(ports, found[1])
		}
	}
	return ports
}
