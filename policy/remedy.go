package policy

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// Remedy lets the later executors of an application start with fewer cores, or with more
// memory, if earlier ones died of memory.
type Remedy struct {
	// Mode is Disabled, Audit or Enabled. With Disabled an application can still ask for
	// it.
	Mode Mode `json:"mode"`
	// AfterDeaths is how many executors must have died before, 1 by default: an
	// application of four attempts for each task has the time for two more steps.
	AfterDeaths int `json:"afterDeaths,omitempty"`
	// MaxMemory is the largest memory limit that an executor's container may get. Without
	// it memory is never raised.
	MaxMemory *resource.Quantity `json:"maxMemory,omitempty"`
}

// MaxMemoryMiB returns MaxMemory in MiB, or 0.
func (r *Remedy) MaxMemoryMiB() int64 {
	if r.MaxMemory == nil {
		return 0
	}
	return r.MaxMemory.Value() >> 20
}

const defaultAfterDeaths = 1

// complete checks a rule's remedy and sets its default.
func (r *Remedy) complete(at *field.Path) (errs field.ErrorList) {
	if !slices.Contains(modes, r.Mode) {
		errs = append(errs, field.NotSupported(at.Child("mode"), r.Mode, modes))
	}
	if r.AfterDeaths == 0 {
		r.AfterDeaths = defaultAfterDeaths
	}
	if r.AfterDeaths < 1 || r.AfterDeaths > annotations.MaxAfterDeaths {
		errs = append(errs, field.Invalid(at.Child("afterDeaths"), r.AfterDeaths, fmt.Sprintf("must be from 1 to %d", annotations.MaxAfterDeaths)))
	}
	if mib := r.MaxMemoryMiB(); r.MaxMemory != nil && (mib < leastMaxMemory || mib > annotations.MaxRemedyMiB) {
		errs = append(errs, field.Invalid(at.Child("maxMemory"), r.MaxMemory.String(), "must be from 1Gi to 4Ti; it is the largest limit of an executor's container"))
	}
	return errs
}

const leastMaxMemory = 1024 // MiB

// setRemedy changes a field of the rule's Remedy. It does not add one. A driver's setting
// holds for its later executors: the webhook reads it when it creates one.
func (r *Rule) setRemedy(name, value string, on object) (kind WarningKind, problem string) {
	switch {
	case name != "mode":
		return SettingIgnored, "remedy has no such field; its field is mode"
	case !slices.Contains(modes, Mode(value)):
		return SettingIgnored, "must be disabled, audit or enabled"
	case on == driverService, on == driverPod && Mode(value) == Enabled:
		return SettingUnused, "it applies only to " + string(executorPod) + "; on a driver's pod disabled or audit lowers the mode of its executors"
	case on == driverPod:
		return "", ""
	case r.Remedy == nil:
		return SettingUnused, fmt.Sprintf("the rule %s has no remedy; %s chooses another rule", r.Name, annotations.Rule)
	}
	own := *r.Remedy
	own.Mode = Mode(value)
	r.Remedy = &own
	return "", ""
}
