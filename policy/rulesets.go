package policy

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed rulesets/*.yaml
var ruleSetFiles embed.FS

const defaultRuleSet = "default"

// RuleSets are the names of the ready-made rule sets, the files of the folder
// rulesets. The default set is the first.
var RuleSets = ruleSetNames()

func ruleSetNames() []string {
	files, err := ruleSetFiles.ReadDir("rulesets")
	if err != nil {
		panic(err)
	}
	names := []string{defaultRuleSet}
	for _, file := range files {
		if name := strings.TrimSuffix(file.Name(), ".yaml"); name != defaultRuleSet {
			names = append(names, name)
		}
	}
	return names
}

// RuleSetYAML returns the source of a ready-made rule set, with its reasons as
// comments.
func RuleSetYAML(name string) ([]byte, error) {
	if !slices.Contains(RuleSets, name) {
		return nil, fmt.Errorf("there is no rule set %q; there are %s", name, strings.Join(RuleSets, ", "))
	}
	return ruleSetFiles.ReadFile("rulesets/" + name + ".yaml")
}

// ruleSet parses a ready-made set. If one does not parse, that is a bug, and a test
// finds it.
func ruleSet(name string) []*Rule {
	source, err := RuleSetYAML(name)
	if err != nil {
		panic(err)
	}
	rules, err := parseRules(source, name+"/")
	if err != nil {
		panic(fmt.Errorf("rule set %s: %w", name, err))
	}
	return rules
}

// RulesOf returns the rules of a ready-made rule set in the order in which they are tried.
func RulesOf(set string) []*Rule { return ruleSet(set) }
