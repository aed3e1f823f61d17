package policy

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// LogStall of a rule has drivers reported whose log is silent for too long.
type LogStall struct {
	// After is how long a log may be silent, as [ParseLogStall] reads it: "30m".
	After string `json:"after"`
}

// Bounds of LogStall.After. Anyone who may create pods sets it, and it decides what a
// driver costs: its log is read about once in that time.
const (
	MinLogStall = time.Minute
	MaxLogStall = 7 * 24 * time.Hour
)

// defaultLogStall is that of a pod that turns it on without saying how long.
const defaultLogStall = "30m"

// ParseLogStall reads how long a log may be silent, as a rule, a setting or a
// stamp spells it: whole seconds from [MinLogStall] to [MaxLogStall].
func ParseLogStall(text string) (time.Duration, error) {
	after, err := time.ParseDuration(text)
	if err == nil && after >= MinLogStall && after <= MaxLogStall && after%time.Second == 0 {
		return after, nil
	}
	return 0, fmt.Errorf(`must be a time in whole seconds from %s to %s, such as "45m" or "1h30m"`, short(MinLogStall), short(MaxLogStall))
}

func (l *LogStall) check(at *field.Path) field.ErrorList {
	if _, err := ParseLogStall(l.After); err != nil {
		return field.ErrorList{field.Invalid(at.Child("after"), l.After, err.Error())}
	}
	return nil
}

// setLogStall changes a field of it. Where the rule has none, none is made.
func (r *Rule) setLogStall(name, value string, on object) (kind WarningKind, problem string) {
	_, err := ParseLogStall(value)
	switch {
	case name != "after":
		return SettingIgnored, "logStall has no such field; its field is after"
	case on != driverPod:
		return SettingUnused, "it applies only to " + string(driverPod)
	case err != nil:
		return SettingIgnored, err.Error()
	case r.LogStall == nil:
		return SettingUnused, `logStall is off here; spark-vitals.io/logStall: "true" turns it on`
	}
	r.LogStall = &LogStall{After: value}
	return "", ""
}

// short is a duration without the zeros: "1m", not "1m0s".
func short(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
