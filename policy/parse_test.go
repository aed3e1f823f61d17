package policy_test

import (
	"regexp"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/policy"
)

// Every file of testdata is a policy that is refused, and the error.
func TestRefusedPolicies(t *testing.T) {
	for _, file := range golden.Files(t, "testdata/*.txtar") {
		t.Run(file.Name, func(t *testing.T) {
			_, err := policy.Parse(file.Part("policy.yaml"))
			if err == nil {
				t.Fatal("accepted")
			}
			file.Check(t, "error", err.Error()+"\n")
		})
	}
}

func TestAccepted(t *testing.T) {
	for name, source := range map[string]string{
		"empty":      "",
		"a rule set": "ruleSet: ui",
		"JSON":       `{"rules": [{"name": "r", "match": {"role": "driver"}}]}`,
		"no rules":   "rules: []",
		"same name for two roles": `
rules:
- {name: batch, match: {role: driver}}
- {name: batch, match: {role: executor}}`,
		"an unready driver, accepted": `
rules:
- name: slow
  match: {role: driver}
  acceptUnreadyDriver: true
  probes: {readiness: {httpGet: {port: spark-ui}, initialDelaySeconds: 60}}`,
		"an early end, accepted": `
rules:
- name: hasty
  match: {role: driver}
  acceptEarlyEnd: true
  probes: {startup: {tcpSocket: {port: driver-rpc-port}, periodSeconds: 2}}`,
		"a Connect server": `
rules:
- name: connect
  match: {role: driver, mainClass: org.apache.spark.sql.connect.*}
  publishNotReadyAddresses: true
  probes: {startup: {tcpSocket: {port: spark-connect}, periodSeconds: 1, failureThreshold: 2147483647}}`,
		"a port of the platform's own": `
rules:
- name: own
  match: {role: driver}
  probes: {liveness: {httpGet: {port: 8080}}}`,
		"an executor may be unready": `
rules:
- name: e
  match: {role: executor}
  probes: {readiness: {tcpSocket: {port: blockmanager}, initialDelaySeconds: 60}}`,
		"a label selector and a pattern": `
rules:
- name: kyuubi
  match: {role: driver, labels: {matchExpressions: [{key: kyuubi-unique-tag, operator: Exists}]}, mainClass: org.apache.kyuubi.*, sparkVersion: "~3.5 || >=4"}`,
	} {
		if _, err := policy.Parse([]byte(source)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// place of what is wrong: a field, or YAML itself, mostly with its line.
var place = regexp.MustCompile(`(?s)^(yaml: |the whole of it |.+: )`)

// FuzzParse: whatever the file, it is parsed or refused, and never both wrong
// and silent: the error says where, and what is accepted has a name and a role in
// every rule.
func FuzzParse(f *testing.F) {
	for _, name := range policy.RuleSets {
		source, err := policy.RuleSetYAML(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		p, err := policy.Parse(source)
		if err != nil {
			if !place.MatchString(err.Error()) {
				t.Errorf("refused without a field: %v", err)
			}
			return
		}
		for _, rule := range p.Rules() {
			if rule.Name == "" || rule.Match.Role == "" {
				t.Errorf("accepted a rule without name or role: %+v", rule)
			}
		}
	})
}
