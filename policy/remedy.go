package policy

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Remedy lets the later executors of an application start with fewer cores, or with more
// memory, if earlier ones died of memory; and the next run of the same job, with its
// driver. A rule for drivers has only NextRun and MaxMemory.
type Remedy struct {
	// Mode is Disabled, Audit or Enabled. With Disabled an application can still ask for
	// it.
	Mode Mode `json:"mode,omitempty"`
	// AfterDeaths is how many executors must have died before, 1 by default: an
	// application of four attempts for each task has the time for two more steps.
	AfterDeaths int `json:"afterDeaths,omitempty"`
	// MaxMemory is the largest memory limit that Spark's container may get. Without it
	// memory is never raised.
	MaxMemory *resource.Quantity `json:"maxMemory,omitempty"`
	// NextRun is whether the next run of the same SparkJob starts with what the last one
	// needed: Disabled by default, Audit or Enabled. Executors have it in Mode at most.
	NextRun Mode `json:"nextRun,omitempty"`
}

// MaxMemoryMiB returns MaxMemory in MiB, or 0.
func (r *Remedy) MaxMemoryMiB() int64 {
	if r.MaxMemory == nil {
		return 0
	}
	return r.MaxMemory.Value() >> 20
}

const defaultAfterDeaths = 1

// Carries returns whether the next run starts with what the last one needed: Audit,
// Enabled, or "" for no.
func (r *Remedy) Carries() Mode {
	if r == nil || r.NextRun == Disabled {
		return ""
	}
	return r.NextRun
}

// complete checks a rule's remedy and sets its default.
func (r *Remedy) complete(at *field.Path, role spark.Role) (errs field.ErrorList) {
	if mib := r.MaxMemoryMiB(); r.MaxMemory != nil && (mib < leastMaxMemory || mib > annotations.MaxRemedyMiB) {
		errs = append(errs, field.Invalid(at.Child("maxMemory"), r.MaxMemory.String(), "must be from 1Gi to 4Ti; it is the largest memory limit of Spark's container"))
	}
	if r.NextRun != "" && !slices.Contains(modes, r.NextRun) {
		errs = append(errs, field.NotSupported(at.Child("nextRun"), r.NextRun, modes))
	}
	if role == spark.Driver {
		return append(errs, r.completeOfDriver(at)...)
	}
	if !slices.Contains(modes, r.Mode) {
		errs = append(errs, field.NotSupported(at.Child("mode"), r.Mode, modes))
	}
	if r.AfterDeaths == 0 {
		r.AfterDeaths = defaultAfterDeaths
	}
	if r.AfterDeaths < 1 || r.AfterDeaths > annotations.MaxAfterDeaths {
		errs = append(errs, field.Invalid(at.Child("afterDeaths"), r.AfterDeaths, fmt.Sprintf("must be from 1 to %d", annotations.MaxAfterDeaths)))
	}
	return errs
}

// completeOfDriver checks the remedy of a rule for drivers. A driver is not replaced
// while its application runs, so only its next run can get something.
func (r *Remedy) completeOfDriver(at *field.Path) (errs field.ErrorList) {
	const why = "only for rules with match.role: executor; a driver gets more memory in the next run of its job (nextRun)"
	if r.Mode != "" {
		errs = append(errs, field.Forbidden(at.Child("mode"), why))
	}
	if r.AfterDeaths != 0 {
		errs = append(errs, field.Forbidden(at.Child("afterDeaths"), why))
	}
	if r.NextRun == "" {
		errs = append(errs, field.Required(at.Child("nextRun"), "must be disabled, audit or enabled"))
	}
	if r.MaxMemory == nil {
		errs = append(errs, field.Required(at.Child("maxMemory"), "is the largest memory limit that a driver's container may get"))
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
	case on == driverPod && r.Remedy == nil:
		return "", ""
	case on == driverPod:
		own := *r.Remedy
		own.NextRun = lesser(own.NextRun, Mode(value))
		r.Remedy = &own
		return "", ""
	case r.Remedy == nil:
		return SettingUnused, fmt.Sprintf("the rule %s has no remedy; %s chooses another rule", r.Name, annotations.Rule)
	}
	own := *r.Remedy
	own.Mode = Mode(value)
	r.Remedy = &own
	return "", ""
}

// lesser returns the one of two modes with which less is done.
func lesser(a, b Mode) Mode {
	return modes[min(slices.Index(modes, a), slices.Index(modes, b))]
}
