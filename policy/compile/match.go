package compile

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// rulesOf returns all rules for a role that a pod can have: those of the policy, and those
// of the ready-made sets. Rules of the same name are the same.
func rulesOf(p *policy.Policy, role spark.Role) (all []*policy.Rule) {
	known := map[string]bool{}
	for _, rule := range slices.Concat(p.Rules(), slices.Concat(sets()...)) {
		if rule.Match.Role == role && !known[rule.Name] {
			known[rule.Name] = true
			all = append(all, rule)
		}
	}
	return all
}

func sets() (all [][]*policy.Rule) {
	for _, name := range policy.RuleSets {
		all = append(all, policy.RulesOf(name))
	}
	return all
}

// chosenRule returns the variables that choose an object's rule, as [policy.Policy.For]
// does: rule is the rule's name, or the empty text. conditions are those of one rule, and
// matching is the first rule of the policy that matches.
func chosenRule(p *policy.Policy, role spark.Role, conditions func(policy.Match) []string, matching func([]*policy.Rule) string) []variable {
	rules := slices.DeleteFunc(p.Rules(), func(r *policy.Rule) bool { return r.Match.Role != role })
	own := namesOf(rules, ofRole(role))
	matches := onLines(rulesOf(p, role), func(rule *policy.Rule) string {
		if conditions := conditions(rule.Match); len(conditions) > 0 {
			return and(conditions...) + " ? " + text(rule.Name) + " : ''"
		}
		return text(rule.Name)
	})
	sets := onLines(policy.RuleSets, func(set string) string {
		return text(set) + ": " + texts(namesOf(policy.RulesOf(set), ofRole(role)))
	})
	return []variable{
		{"matches", "The rules that match, and those of the rule sets.", "[" + matches + "]"},
		{"matching", "The first rule that matches.", matching(rules)},
		{"asked", "The rule, or the rule set, that the object asks for.", "variables.settings[?'rule'].orValue('')"},
		{"rule", "The rule that applies.", "variables.asked in " + texts(own) + " ? variables.asked :\n{" + sets +
			"}[?variables.asked].orValue([]).filter(name, name in variables.matches)[?0].orValue(variables.matching)"},
	}
}

func ofRole(role spark.Role) func(*policy.Rule) bool {
	return func(rule *policy.Rule) bool { return rule.Match.Role == role }
}

// firstOf returns the first of some rules that matches, if any.
func firstOf(names []string) string {
	return texts(names) + ".filter(name, name in variables.matches)[?0]"
}

// matchingPod returns the first rule of a policy that matches a pod.
func matchingPod(rules []*policy.Rule) string {
	return firstOf(namesOf(rules, func(*policy.Rule) bool { return true })) + ".orValue('')"
}

// conditionsOfPod returns what must hold for a pod.
func conditionsOfPod(m policy.Match) []string {
	all := conditionsOf(m)
	if m.MainClass != "" {
		all = append(all, "variables.mainClass.matches("+text(pattern(m.MainClass))+")")
	}
	return all
}

// matchingService returns the rule of a driver's Service, which does not show the main
// class: if several rules may be the driver's, one that publishes its address comes first.
// That is one that matches before the first that matches and needs no class.
func matchingService(drivers []*policy.Rule) string {
	names := namesOf(drivers, func(*policy.Rule) bool { return true })
	publishing := namesOf(drivers, func(r *policy.Rule) bool { return r.PublishNotReadyAddresses })
	deciding := namesOf(drivers, func(r *policy.Rule) bool { return r.PublishNotReadyAddresses || r.Match.MainClass == "" })
	if len(deciding) == len(names) {
		return matchingPod(drivers)
	}
	return firstOf(deciding) + ".optMap(name, name in " + texts(publishing) + " ? name : '').orValue('') != '' ?\n" +
		firstOf(deciding) + ".value() :\n" + firstOf(names) + ".orValue('')"
}

// conditionsOf returns what labels and version must be.
func conditionsOf(m policy.Match) (all []string) {
	if m.Labels != nil {
		for _, key := range slices.Sorted(maps.Keys(m.Labels.MatchLabels)) {
			all = append(all, isIn(key, []string{m.Labels.MatchLabels[key]}))
		}
		for _, r := range m.Labels.MatchExpressions {
			all = append(all, requirement(r))
		}
	}
	if m.SparkVersion != "" {
		all = append(all, versionIn(intervals(m.SparkVersion)))
	}
	return all
}

func requirement(r metav1.LabelSelectorRequirement) string {
	switch r.Operator {
	case metav1.LabelSelectorOpIn:
		return isIn(r.Key, r.Values)
	case metav1.LabelSelectorOpNotIn:
		return "!" + isIn(r.Key, r.Values)
	case metav1.LabelSelectorOpExists:
		return text(r.Key) + " in variables.labels"
	default:
		return "!(" + text(r.Key) + " in variables.labels)"
	}
}

func isIn(key string, values []string) string {
	return "(" + text(key) + " in variables.labels && variables.labels[" + text(key) + "] in " + texts(values) + ")"
}

// isSimple reports whether a pattern of a main class has nothing but * and ?.
func isSimple(glob string) bool { return !strings.ContainsAny(glob, `[]\`) }

// pattern returns a pattern such as com.acme.* as a regular expression.
func pattern(glob string) string {
	return "^" + strings.NewReplacer(`\*`, "[^/]*", `\?`, "[^/]").Replace(regexp.QuoteMeta(glob)) + "$"
}

// interval is the versions from one, which is included, to another, which is not; to is
// nil if there is no end.
type interval struct{ from, to *semver.Version }

var numbers = regexp.MustCompile(`(\d+)(?:\.(\d+))?(?:\.(\d+))?`)

// intervals returns the versions in a range such as "^3.5 || >=4.1". A range can begin and
// end only at the versions that it names and at those that follow them, so it is enough to
// ask it about these.
func intervals(constraint string) (all []interval) {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return nil // policy.Parse has checked it
	}
	var edges []*semver.Version
	for _, found := range numbers.FindAllStringSubmatch("0 "+constraint, -1) {
		major, minor, patch := number(found[1]), number(found[2]), number(found[3])
		edges = append(edges, semver.New(major, minor, patch, "", ""), semver.New(major, minor, patch+1, "", ""), semver.New(major, minor+1, 0, "", ""), semver.New(major+1, 0, 0, "", ""))
	}
	slices.SortFunc(edges, func(a, b *semver.Version) int { return a.Compare(b) })
	inside := false
	for _, edge := range edges {
		switch now := c.Check(edge); {
		case now && !inside:
			all, inside = append(all, interval{from: edge}), true
		case !now && inside:
			all[len(all)-1].to, inside = edge, false
		}
	}
	return all
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(cmp.Or(text, "0"), 10, 32)
	return n
}

func versionIn(all []interval) string {
	var within []string
	for _, i := range all {
		conditions := []string{atLeast(i.from.String())}
		if i.to != nil {
			conditions = append(conditions, before(i.to.String()))
		}
		within = append(within, and(conditions...))
	}
	return or(within...)
}

// atLeast returns whether Spark's version is known and is the given one or later.
func atLeast(version string) string {
	return "!" + before(version)
}

func before(version string) string {
	return "variables.version.isLessThan(semver(" + text(version) + "))"
}

// unknown is the version of a pod that does not show it.
const unknown = "0.0.0-unknown"
