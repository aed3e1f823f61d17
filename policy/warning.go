package policy

import "fmt"

// Warning tells a user what is wrong with his pod, and what to write instead.
type Warning struct {
	Kind WarningKind
	// Field is the path in the pod of what is wrong.
	Field string
	Text  string
}

// WarningKind says what a warning is about.
type WarningKind string

// The kinds.
const (
	SettingIgnored WarningKind = "setting-ignored" // an annotation of ours that cannot be read, or would do harm
	SettingUnused  WarningKind = "setting-unused"  // an annotation of ours that means nothing on this object
	HarmfulProbe   WarningKind = "harmful-probe"   // a probe of the user's own that will harm Spark
	ProbeLeftOut   WarningKind = "probe-left-out"  // a probe of the rule that this pod cannot have
)

func (w Warning) String() string { return w.Field + ": " + w.Text }

// IsUsersFault tells whether the user can and should mend it: what --validation=deny
// refuses a driver for.
func (w Warning) IsUsersFault() bool { return w.Kind == SettingIgnored || w.Kind == HarmfulProbe }

const shownBytes = 40 // of a value that a warning repeats: whoever makes pods chooses it

func settingWarning(kind WarningKind, key, value, problem string) Warning {
	if len(value) > shownBytes {
		value = value[:shownBytes] + "..."
	}
	return Warning{kind, fmt.Sprintf("metadata.annotations[%s]", key), fmt.Sprintf("%+q is ignored: %s", value, problem)}
}
