package compile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// variable is a variable of an admission policy.
type variable struct {
	name string
	why  string // a comment, of one or more lines
	cel  string
}

// expression returns the variable's CEL, after its comment.
func (v variable) expression() string {
	var b strings.Builder
	for line := range strings.Lines(v.why) {
		b.WriteString("// " + strings.TrimSpace(line) + "\n")
	}
	return b.String() + strings.TrimSpace(v.cel)
}

// text returns a string as CEL. A script of several lines stays readable, if CEL reads its
// ends of lines as they are.
func text(s string) string {
	if strings.Contains(s, "\n") && !strings.Contains(s, `"""`) && !strings.Contains(s, "\r") && !strings.HasSuffix(s, `"`) {
		return `r"""` + s + `"""`
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", `\x00`).Replace(s) + "'"
}

// texts returns a list of strings as CEL.
func texts[T ~string](all []T) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = text(string(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// literal returns a JSON value as CEL. Values of a map are of any type, which CEL wants
// to be told. replaced has the CEL of strings that are more than strings.
func literal(v any, replaced func(string) string) string {
	switch v := v.(type) {
	case string:
		return replaced(v)
	case []any:
		return list(v, func(each any) string { return literal(each, replaced) })
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		return "{" + join(keys, func(key string) string { return text(key) + ": dyn(" + literal(v[key], replaced) + ")" }) + "}"
	default: // a number or a boolean
		data, _ := json.Marshal(v)
		return string(data)
	}
}

func list[T any](all []T, one func(T) string) string { return "[" + join(all, one) + "]" }

// onLines returns parts, each on a line.
func onLines[T any](all []T, one func(T) string) string {
	var b strings.Builder
	for i, each := range all {
		b.WriteString("\n  " + one(each))
		if i < len(all)-1 {
			b.WriteString(",")
		}
	}
	return b.String() + "\n"
}

func join[T any](all []T, one func(T) string) string {
	parts := make([]string, len(all))
	for i, each := range all {
		parts[i] = one(each)
	}
	return strings.Join(parts, ", ")
}

func itoa[T int | int32](n T) string { return strconv.Itoa(int(n)) }

// branch is one of several cases: of the first condition that holds, the value counts.
type branch struct{ condition, value string }

// choose returns the CEL of cases, each on a line, and of what is left.
func choose(branches []branch, otherwise string) string {
	var b strings.Builder
	for _, each := range branches {
		if each.value == otherwise {
			continue
		}
		fmt.Fprintf(&b, "%s ? %s :\n", each.condition, each.value)
	}
	return b.String() + otherwise
}

// ofRule returns the CEL of what rules have, each by the name of its rule, and of what all
// others have. It is no nested choice, of which CEL reads at most 250.
func ofRule(rules []branch, others string) string {
	if len(rules) == 0 {
		return others
	}
	return "{" + join(rules, func(b branch) string { return text(b.condition) + ": " + b.value }) + "}[?variables.rule].orValue(" + others + ")"
}

// or, and join conditions. Without any, or is false and and is true.
func or(conditions ...string) string  { return joined(conditions, " || ", "false") }
func and(conditions ...string) string { return joined(conditions, " && ", "true") }

func joined(conditions []string, operator, none string) string {
	switch len(conditions) {
	case 0:
		return none
	case 1:
		return conditions[0]
	}
	return "(" + strings.Join(conditions, operator) + ")"
}
