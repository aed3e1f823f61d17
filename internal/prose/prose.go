// Package prose checks what people read: pages, the chart's comments, and the
// program's strings. Its rules are files in the format of Vale, so an editor with Vale
// applies the same ones. The project does not use Vale itself, because it needs a C
// compiler.
package prose

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Rule is one file of a style.
type Rule struct {
	Name    string            `json:"-"`
	Extends string            `json:"extends"` // existence, substitution or occurrence
	Message string            `json:"message"`
	Link    string            `json:"link"`
	Level   string            `json:"level"` // suggestion, warning or error
	Ignore  bool              `json:"ignorecase"`
	Nonword bool              `json:"nonword"`
	Tokens  []string          `json:"tokens"` // existence: what must not be there
	Swap    map[string]string `json:"swap"`   // substitution: what must not be there, and what to write
	Scope   string            `json:"scope"`  // occurrence: sentence
	Token   string            `json:"token"`  // occurrence: what is counted
	Max     int               `json:"max"`

	patterns []pattern
}

type pattern struct {
	bad     *regexp.Regexp
	instead string
}

// Text is a paragraph, a cell of a table, a comment or a string. Code in it is
// replaced by Code.
type Text struct {
	File string
	Line int
	Text string
}

// Code replaces what is not prose in a text.
const Code = "`code`"

// Finding is a place that breaks a rule.
type Finding struct {
	Text
	Rule  string
	Level string
	Says  string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", f.File, f.Line, f.Level, f.Rule, f.Says)
}

// Style reads the rules of a folder.
func Style(folder string) (rules []Rule, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s holds no rules: %w", folder, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		rule := Rule{Name: strings.TrimSuffix(filepath.Base(file), ".yml")}
		if err := yaml.UnmarshalStrict(content, &rule); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := rule.compile(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func (r *Rule) compile() error {
	if !slices.Contains([]string{"suggestion", "warning", "error"}, r.Level) {
		return fmt.Errorf("level is %q; use suggestion, warning or error", r.Level)
	}
	switch r.Extends {
	case "existence":
		for _, token := range r.Tokens {
			if err := r.add(token, ""); err != nil {
				return err
			}
		}
		return nil
	case "substitution":
		for bad, instead := range r.Swap {
			if err := r.add(bad, instead); err != nil {
				return err
			}
		}
		return nil
	case "occurrence":
		return r.add(r.Token, "")
	}
	return fmt.Errorf("extends is %q; use existence, substitution or occurrence", r.Extends)
}

func (r *Rule) add(expression, instead string) error {
	if !r.Nonword && r.Extends != "occurrence" {
		expression = `\b(?:` + expression + `)\b`
	}
	if r.Ignore {
		expression = "(?i)" + expression
	}
	bad, err := regexp.Compile(expression)
	r.patterns = append(r.patterns, pattern{bad, instead})
	return err
}

// Check finds what breaks the rules.
func Check(rules []Rule, texts []Text) (found []Finding) {
	for _, text := range texts {
		for _, rule := range rules {
			for _, says := range rule.check(text.Text) {
				found = append(found, Finding{text, rule.Name, rule.Level, says})
			}
		}
	}
	return found
}

func (r *Rule) check(text string) (says []string) {
	for _, p := range r.patterns {
		if r.Extends == "occurrence" {
			for _, sentence := range sentences(text) {
				if n := len(p.bad.FindAllString(sentence, -1)); n > r.Max {
					says = append(says, fmt.Sprintf("%s %d: %.60s...", r.Message, n, sentence))
				}
			}
			continue
		}
		for _, bad := range p.bad.FindAllString(text, -1) {
			if r.Extends == "substitution" {
				says = append(says, fmt.Sprintf(r.Message, p.instead, bad))
			} else {
				says = append(says, fmt.Sprintf(r.Message, bad))
			}
		}
	}
	return says
}

var end = regexp.MustCompile(`[.!?]["')]?\s+`)

func sentences(text string) []string { return end.Split(text, -1) }
