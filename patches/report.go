package patches

import (
	"fmt"
	"strings"

	"gomodules.xyz/jsonpatch/v2"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
)

// Result is what was done to a pod or a Service.
type Result struct {
	// Operations are those of the JSON patch (RFC 6902), or nil if nothing is to be
	// done.
	Operations []jsonpatch.Operation
	Mode       policy.Mode
	Rule       string // the name of the rule, "" if none applies
	// Set is what is now as the rule requires. Left is what was left alone: the rule
	// would have set it, or the user has. Both are in the order of the patches.
	Set, Left []Reason
	Warnings  []policy.Warning
	// Remedied is Enabled if an executor was given fewer cores now, Audit if it would have
	// been, and "" otherwise.
	Remedied policy.Mode
}

// Reason is why a field was set or left alone.
type Reason struct{ Field, Why string }

// report is a Result in the making.
type report struct {
	set, left []Reason
	warnings  []policy.Warning
	wouldUse  int32 // see annotations.Stamp
	remedied  policy.Mode
}

func (r *report) did(field, why string)   { r.set = append(r.set, Reason{field, why}) }
func (r *report) leave(field, why string) { r.left = append(r.left, Reason{field, why}) }
func (r *report) warn(w ...policy.Warning) {
	r.warnings = append(r.warnings, w...)
}

// earlierStamp returns the stamp of an earlier round, or an empty one.
func earlierStamp(annotated map[string]string) annotations.Stamp {
	return annotations.ReadStamp(annotated[annotations.Injected])
}

// stampReport stamps on the object what was done to it and why.
func (a *annotated) stampReport(choice policy.Choice, r *report) {
	stamp := annotations.Stamp{Rule: choice.Rule.Name}
	if choice.Mode != policy.Enabled {
		stamp.Mode, stamp.BlockManagerPort = choice.Mode, r.wouldUse
	}
	for _, each := range r.set {
		stamp.Set = append(stamp.Set, each.Field)
	}
	for _, each := range r.left {
		if stamp.Left == nil {
			stamp.Left = map[string]string{}
		}
		stamp.Left[each.Field] = each.Why
	}
	a.stamp(annotations.Injected, stamp.String())
	if len(r.warnings) > 0 {
		a.stamp(annotations.Warnings, warningText(r.warnings))
	}
}

const maxWarnings = 8

// warningText writes one warning per line, short enough for an annotation, for any text
// of the user.
func warningText(warnings []policy.Warning) string {
	var lines []string
	for i, w := range warnings {
		if i == maxWarnings {
			lines = append(lines, fmt.Sprintf("and %d more", len(warnings)-i))
			break
		}
		lines = append(lines, w.String())
	}
	return strings.ToValidUTF8(strings.Join(lines, "\n"), "?")
}

func (a *annotated) result(choice policy.Choice, r report) Result {
	result := Result{Operations: a.operations, Mode: choice.Mode, Set: r.set, Left: r.left, Warnings: r.warnings, Remedied: r.remedied}
	if choice.Rule != nil {
		result.Rule = choice.Rule.Name
	}
	return result
}
