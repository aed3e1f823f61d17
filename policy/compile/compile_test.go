package compile_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/policy/compile"
)

// The file for kubectl apply is the compiled rule set "default".
func TestDefault(t *testing.T) {
	golden.Holds(t, "../../deploy/policy-default.yaml", compiled(t, "ruleSet: default"))
}

// The chart has the rule sets, as its users choose them: the default is a text of its own
// in values.yaml, and the others are a line.
func TestRuleSetsOfTheChart(t *testing.T) {
	for _, name := range policy.RuleSets {
		source := "ruleSet: " + name
		if name == "default" {
			text, err := policy.RuleSetYAML(name)
			if err != nil {
				t.Fatal(err)
			}
			source = string(text)
		}
		golden.Holds(t, "../../charts/spark-vitals/files/policies/"+name+".yaml", compiled(t, source))
	}
}

// The page lists the differences.
func TestDifferences(t *testing.T) {
	golden.HoldsBetween(t, "../../docs/policy-engine.md", "differences", "- "+strings.Join(compile.Differences, "\n- ")+"\n")
}

// A policy compiles to the same text each time.
func TestDeterministic(t *testing.T) {
	const source = `rules: [{name: a, match: {role: driver, labels: {matchLabels: {a: b, c: d, e: f}}}, probes: {liveness: {httpGet: {port: spark-ui, httpHeaders: [{name: A, value: b}]}, failureThreshold: 60}, startup: {tcpSocket: {port: spark-ui}, periodSeconds: 1, failureThreshold: 2147483647}}, publishNotReadyAddresses: true}]`
	want := compiled(t, source)
	for range 20 {
		if compiled(t, source) != want {
			t.Fatal("the text differs")
		}
	}
}

// The namespaces of Kubernetes itself are left alone, whatever their labels say.
func TestNamespaces(t *testing.T) {
	c, err := compile.Policy(policy.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Policies {
		selector, err := metav1.LabelSelectorAsSelector(p.Spec.MatchConstraints.NamespaceSelector)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"team": true, "kube-system": false, "kube-public": false, "kube-node-lease": false} {
			if got := selector.Matches(labels.Set{corev1.LabelMetadataName: name, annotations.Inject: "enabled"}); got != want {
				t.Errorf("%s injects in %s: %v", p.Name, name, got)
			}
		}
	}
}

// No function takes the square of the time that its budget says.
func TestNoDistinct(t *testing.T) {
	if strings.Contains(compiled(t, ""), ".distinct(") {
		t.Error("distinct compares each item with all others")
	}
}

// What CEL cannot say is refused, with the field and a remedy.
func TestRefused(t *testing.T) {
	for source, want := range map[string]string{
		"rules: [{name: a, match: {role: executor}, remedy: {mode: audit}}]":                              "rules[0].remedy: Forbidden: an admission policy does not know what died; leave it out, or use the webhook",
		"rules: [{name: a, match: {role: driver}}, {name: b, match: {role: driver, mainClass: '[ab]*'}}]": "rules[1].match.mainClass: Invalid value: \"[ab]*\": an admission policy reads only * and ?",
	} {
		p, err := policy.Parse([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := compile.Policy(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// What is too large for the API server is refused here.
func TestTooLarge(t *testing.T) {
	rules := func(n int, rule string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "\n- {name: rule-%d, match: {role: driver}, "+rule+"}", i, i+1)
		}
		return "rules:" + b.String()
	}
	const probe = "acceptUnreadyDriver: true, publishNotReadyAddresses: true, probes: {readiness: {tcpSocket: {port: 4040}, failureThreshold: %d}}"
	compiled(t, rules(100, probe))
	for source, want := range map[string]string{
		rules(200, probe):                       "rules: Forbidden: the API server reads no expression of more than 100000 characters, and what they say of \"readiness\" has ",
		rules(3000, "logStall: {after: 1h%ds}"): "rules: Forbidden: spark-vitals-drivers would have ",
	} {
		p, err := policy.Parse([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := compile.Policy(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.300v", err)
		}
	}
}

func compiled(t *testing.T, source string) string {
	t.Helper()
	p, err := policy.Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	c, err := compile.Policy(p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.YAML([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
