package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/strict"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Policy is the rules of one cluster. It comes from [Parse] and never changes.
type Policy struct {
	rules []*Rule
	sets  map[string][]*Rule
}

// Rules returns the rules in the order in which they are tried.
func (p *Policy) Rules() []*Rule { return slices.Clone(p.rules) }

// Parse reads a policy from YAML or JSON; see the package comment for its
// grammar. The error names every field that is wrong and what to write instead.
func Parse(source []byte) (*Policy, error) {
	rules, err := parseRules(source, "")
	if err != nil {
		return nil, err
	}
	p := &Policy{rules: rules, sets: map[string][]*Rule{}}
	for _, name := range RuleSets {
		p.sets[name] = ruleSet(name)
	}
	return p, nil
}

// Default returns the policy that applies if the user has none.
func Default() *Policy {
	p, err := Parse(nil)
	if err != nil {
		panic(err) // only the ready-made set can be at fault, and a test parses it
	}
	return p
}

type file struct {
	RuleSet string            `json:"ruleSet"`
	Rules   []json.RawMessage `json:"rules"`
}

func parseRules(source []byte, prefix string) ([]*Rule, error) {
	data, err := yaml.YAMLToJSONStrict(source)
	if err != nil {
		return nil, err
	}
	var f file
	if err := decodeStrict(data, &f, nil); err != nil {
		return nil, err
	}
	rules, errs := f.parse(prefix)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return rules, nil
}

func (f *file) parse(prefix string) (rules []*Rule, errs []error) {
	list := field.NewPath("rules")
	for i, raw := range f.Rules {
		rule := &Rule{}
		if err := decodeStrict(raw, rule, list.Index(i)); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, err := range rule.complete(list.Index(i), prefix) {
			errs = append(errs, err)
		}
		if slices.ContainsFunc(rules, func(r *Rule) bool { return r.Name == rule.Name && r.Match.Role == rule.Match.Role }) {
			errs = append(errs, field.Duplicate(list.Index(i).Child("name"), rule.Name))
		}
		rules = append(rules, rule)
	}
	if f.RuleSet == "" && len(f.Rules) == 0 {
		f.RuleSet = defaultRuleSet
	}
	switch {
	case f.RuleSet == "":
	case !slices.Contains(RuleSets, f.RuleSet):
		errs = append(errs, field.NotSupported(field.NewPath("ruleSet"), f.RuleSet, RuleSets))
	default:
		rules = append(rules, ruleSet(f.RuleSet)...)
	}
	return rules, errs
}

// decodeStrict refuses unknown fields. It names the field at fault by its path in the
// whole file.
func decodeStrict(data []byte, into any, at *field.Path) error {
	unknown, err := strict.Decode(data, into, at)
	return errors.Join(append(unknown, err)...)
}

// complete checks a rule and computes what is derived from it.
func (r *Rule) complete(at *field.Path, prefix string) field.ErrorList {
	errs := r.checkName(at.Child("name"))
	r.Name = prefix + r.Name
	errs = append(errs, r.Match.complete(at.Child("match"))...)
	errs = append(errs, r.checkSwitches(at)...)
	r.gated = r.Probes.Startup != nil
	for _, name := range ProbeNames {
		probe := *r.Probes.Named(name)
		if probe == nil {
			continue
		}
		setDefaults(probe)
		errs = append(errs, r.checkProbe(name, probe, at.Child("probes", string(name)))...)
	}
	for name := range r.Why {
		if !slices.Contains(ProbeNames, name) {
			errs = append(errs, field.NotSupported(at.Child("why"), name, ProbeNames))
		}
	}
	return errs
}

// checkName checks a name, which goes into stamps, metrics and annotations.
func (r *Rule) checkName(at *field.Path) (errs field.ErrorList) {
	if r.Name == "" {
		return field.ErrorList{field.Required(at, "pods choose a rule by its name")}
	}
	for _, problem := range validation.IsDNS1123Label(r.Name) {
		errs = append(errs, field.Invalid(at, r.Name, problem))
	}
	if slices.Contains(RuleSets, r.Name) {
		errs = append(errs, field.Invalid(at, r.Name, "is the name of a ready-made rule set; choose another"))
	}
	return errs
}

func (m *Match) complete(at *field.Path) (errs field.ErrorList) {
	if m.Role != spark.Driver && m.Role != spark.Executor {
		errs = append(errs, field.NotSupported(at.Child("role"), m.Role, []spark.Role{spark.Driver, spark.Executor}))
	}
	var err error
	if m.Labels != nil {
		if m.labels, err = metav1.LabelSelectorAsSelector(m.Labels); err != nil {
			errs = append(errs, field.Invalid(at.Child("labels"), m.Labels, err.Error()))
		}
	}
	if m.SparkVersion != "" {
		if m.version, err = semver.NewConstraint(m.SparkVersion); err != nil {
			errs = append(errs, field.Invalid(at.Child("sparkVersion"), m.SparkVersion, `not a range of versions; write one such as ">=3.5 <4.2"`))
		}
	}
	if _, err := path.Match(m.MainClass, ""); err != nil {
		errs = append(errs, field.Invalid(at.Child("mainClass"), m.MainClass, "the pattern has a [ or \\ that is not closed"))
	}
	if m.MainClass != "" && m.Role == spark.Executor {
		errs = append(errs, field.Forbidden(at.Child("mainClass"), "an executor's pod does not show the main class; match it by label"))
	}
	return errs
}

func (r *Rule) checkSwitches(at *field.Path) (errs field.ErrorList) {
	for _, t := range toggles {
		if t.on(r) && (t.of == driverPod || t.of == driverService) && r.Match.Role != spark.Driver {
			errs = append(errs, field.Forbidden(at.Child(t.name), "only for rules with match.role: driver"))
		}
		if t.on(r) && t.of == executorPod && r.Match.Role != spark.Executor {
			errs = append(errs, field.Forbidden(at.Child(t.name), "only for rules with match.role: executor"))
		}
	}
	if r.AcceptUnreadyDriver && r.Match.Role != spark.Driver {
		errs = append(errs, field.Forbidden(at.Child("acceptUnreadyDriver"), "only for rules with match.role: driver"))
	}
	if ports := r.BlockManagerPort; ports != nil {
		errs = append(errs, ports.check(at.Child("blockManagerPort"))...)
	}
	if r.LogStall != nil {
		errs = append(errs, r.LogStall.check(at.Child("logStall"))...)
	}
	if r.Remedy != nil {
		errs = append(errs, r.Remedy.complete(at.Child("remedy"), r.Match.Role)...)
	}
	return errs
}

func (p *PortRange) check(at *field.Path) field.ErrorList {
	switch {
	case p.From < 1024 || p.From > 65535:
		return field.ErrorList{field.Invalid(at.Child("from"), p.From, "must be from 1024 to 65535")}
	case p.To < p.From || p.To > 65535:
		return field.ErrorList{field.Invalid(at.Child("to"), p.To, fmt.Sprintf("must be from %d to 65535", p.From))}
	}
	return nil
}
