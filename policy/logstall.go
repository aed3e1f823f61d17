package policy

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// LogStall makes a rule report drivers that do not log for too long.
type LogStall struct {
	// After is how long a log may be silent, as [annotations.ParseLogStall] reads it: "30m".
	After string `json:"after"`
}

// defaultLogStall is the time for a pod that turns it on without a time.
const defaultLogStall = "30m"

func (l *LogStall) check(at *field.Path) field.ErrorList {
	if _, err := annotations.ParseLogStall(l.After); err != nil {
		return field.ErrorList{field.Invalid(at.Child("after"), l.After, err.Error())}
	}
	return nil
}

// setLogStall changes a field of the rule's LogStall. It does not add one.
func (r *Rule) setLogStall(name, value string, on object) (kind WarningKind, problem string) {
	_, err := annotations.ParseLogStall(value)
	switch {
	case name != "after":
		return SettingIgnored, "logStall has no such field; its field is after"
	case on != driverPod:
		return SettingUnused, "it applies only to " + string(driverPod)
	case err != nil:
		return SettingIgnored, err.Error()
	case r.LogStall == nil:
		return SettingUnused, "logStall is off here; " + annotations.Prefix + `logStall: "true" turns it on`
	}
	r.LogStall = &LogStall{After: value}
	return "", ""
}
