package policy

import (
	"fmt"
	"strings"
)

// Warning is about what is wrong with a user's pod, and what to write instead.
type Warning struct {
	Kind WarningKind
	// Field is the path in the pod of what is wrong.
	Field string
	Text  string
}

// WarningKind is what a warning is about.
type WarningKind string

// The kinds.
const (
	SettingIgnored WarningKind = "setting-ignored" // an annotation of spark-vitals that cannot be read, or would do harm
	SettingUnused  WarningKind = "setting-unused"  // an annotation of spark-vitals that means nothing on this object
	HarmfulProbe   WarningKind = "harmful-probe"   // a probe of the user's own that will harm Spark
	DoubtfulProbe  WarningKind = "doubtful-probe"  // a probe of the user's own that may harm Spark, or is of no use
	ProbeLeftOut   WarningKind = "probe-left-out"  // a probe of the rule that this pod cannot have
	MemoryRisk     WarningKind = "memory-risk"     // memory that is divided so that the kernel may end the container
	EndsSessions   WarningKind = "ends-sessions"   // what one user does ends the engine of many
)

// WarningKinds are all of them.
var WarningKinds = []WarningKind{SettingIgnored, SettingUnused, HarmfulProbe, DoubtfulProbe, ProbeLeftOut, MemoryRisk, EndsSessions}

// String returns a line of at most maxBytes. The longest text of spark-vitals is
// shorter, so only the user's part is cut.
func (w Warning) String() string { return cut(w.Field+": "+w.Text, maxBytes) }

// IsUsersFault reports whether it is certain that the user must fix it.
// --validation=deny refuses a driver because of it.
func (w Warning) IsUsersFault() bool { return w.Kind == SettingIgnored || w.Kind == HarmfulProbe }

// The length in bytes to which text that a pod's creator has chosen is cut.
const (
	maxBytes      = 512
	maxKeyBytes   = len("spark-vitals.io/") + 63 // the longest that can be right
	maxValueBytes = 40
)

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "?") + "..."
}

func settingWarning(kind WarningKind, key, value, problem string) Warning {
	return Warning{kind, fmt.Sprintf("metadata.annotations[%s]", cut(key, maxKeyBytes)), fmt.Sprintf("%+q is ignored: %s", cut(value, maxValueBytes), problem)}
}
