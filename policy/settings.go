package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// numericField is a field of a probe, by its Kubernetes name.
type numericField struct {
	name string
	get  func(*corev1.Probe) int64
	set  func(*corev1.Probe, int64)
}

func int32Field(name string, of func(*corev1.Probe) *int32) numericField {
	return numericField{
		name: name,
		get:  func(p *corev1.Probe) int64 { return int64(*of(p)) },
		set:  func(p *corev1.Probe, n int64) { *of(p) = int32(n) },
	}
}

var numericFields = []numericField{
	int32Field("initialDelaySeconds", func(p *corev1.Probe) *int32 { return &p.InitialDelaySeconds }),
	int32Field("timeoutSeconds", func(p *corev1.Probe) *int32 { return &p.TimeoutSeconds }),
	int32Field("periodSeconds", func(p *corev1.Probe) *int32 { return &p.PeriodSeconds }),
	int32Field("successThreshold", func(p *corev1.Probe) *int32 { return &p.SuccessThreshold }),
	int32Field("failureThreshold", func(p *corev1.Probe) *int32 { return &p.FailureThreshold }),
	{
		name: "terminationGracePeriodSeconds",
		get: func(p *corev1.Probe) int64 {
			if p.TerminationGracePeriodSeconds == nil {
				return 0
			}
			return *p.TerminationGracePeriodSeconds
		},
		set: func(p *corev1.Probe, n int64) { p.TerminationGracePeriodSeconds = &n },
	},
}

// toggle is a field of a rule that is on or off, and that a pod or a Service turns on
// or off by "<name>": "true" or "false".
type toggle struct {
	name string
	of   object
	on   func(*Rule) bool
	set  func(*Rule, bool)
}

// object is what has the annotations.
type object string

const (
	anyPod        object = "a pod"
	driverPod     object = "a driver's pod"
	executorPod   object = "an executor's pod"
	driverService object = "a driver's Service (spark.kubernetes.driver.service.annotation.*)"
)

func podOf(role spark.Role) object {
	if role == spark.Driver {
		return driverPod
	}
	return executorPod
}

func flag(name string, of object, field func(*Rule) *bool) toggle {
	return toggle{name, of, func(r *Rule) bool { return *field(r) }, func(r *Rule, on bool) { *field(r) = on }}
}

// toggles are the switches of a rule. A probe is not one of them: it can be turned
// off, but not on if the rule has none.
var toggles = []toggle{
	flag("memoryAnnotations", anyPod, func(r *Rule) *bool { return &r.MemoryAnnotations }),
	{
		name: "blockManagerPort", of: executorPod,
		on: func(r *Rule) bool { return r.BlockManagerPort != nil },
		set: func(r *Rule, on bool) {
			if !on {
				r.BlockManagerPort = nil
			} else if r.BlockManagerPort == nil {
				r.BlockManagerPort = &PortRange{From: 20000, To: 29999} // as in the set "default"
			}
		},
	},
	flag("processTreeMetrics", executorPod, func(r *Rule) *bool { return &r.ProcessTreeMetrics }),
	flag("publishNotReadyAddresses", driverService, func(r *Rule) *bool { return &r.PublishNotReadyAddresses }),
	flag("fallbackToLogsOnError", anyPod, func(r *Rule) *bool { return &r.FallbackToLogsOnError }),
	flag("exitOnOutOfMemoryError", driverPod, func(r *Rule) *bool { return &r.ExitOnOutOfMemoryError }),
	{
		name: "logStall", of: driverPod,
		on: func(r *Rule) bool { return r.LogStall != nil },
		set: func(r *Rule, on bool) {
			if !on {
				r.LogStall = nil
			} else if r.LogStall == nil {
				r.LogStall = &LogStall{After: defaultLogStall}
			}
		},
	},
}

// Settings returns the names of all settings without the prefix of an annotation:
// "liveness", "liveness.periodSeconds", "logStall".
func Settings() (all []string) {
	for _, probe := range ProbeNames {
		all = append(all, string(probe))
		for _, number := range numericFields {
			all = append(all, string(probe)+"."+number.name)
		}
	}
	for _, t := range toggles {
		all = append(all, t.name)
	}
	return append(all, "logStall.after", "remedy.mode")
}

// setting is an annotation that changes the rule.
type setting struct{ name, value string } // the name is without the prefix

// settingsIn returns the settings among annotations, sorted: a probe is turned off before
// its numbers are set, and its numbers come together.
func settingsIn(all map[string]string) (settings []setting) {
	for key, value := range all {
		if name, ok := strings.CutPrefix(key, annotations.Prefix); ok && key != annotations.Inject && key != annotations.Rule &&
			!annotations.IsStamp(key) && !annotations.IsRecord(key) {
			settings = append(settings, setting{name, value})
		}
	}
	slices.SortFunc(settings, func(a, b setting) int { return strings.Compare(a.name, b.name) })
	return settings
}

// maxSettingWarnings limits the settings of an object that have a warning each. Fewer
// exist, but an object can have thousands of annotations that only look like settings.
const maxSettingWarnings = 32

// apply changes the rule by the settings of an object. It ignores a setting, and warns,
// if it cannot be read, if it means nothing here, or if it would make a probe that the
// rules of a policy may not have. The numbers of a probe are set together, because a
// period and a threshold may be right only with each other. If they are wrong together,
// they are set one by one. The rule is the caller's own copy; its probes are copied
// before they are changed.
func (r *Rule) apply(settings []setting, on object) (warnings []Warning) {
	more := 0
	for len(settings) > 0 {
		group := settings[:countTogether(settings)]
		settings = settings[len(group):]
		if _, problem := r.set(group, on); problem == "" {
			continue
		}
		for i, s := range group {
			kind, problem := r.set(group[i:i+1], on)
			switch {
			case problem == "":
			case len(warnings) == maxSettingWarnings:
				more++
			default:
				warnings = append(warnings, settingWarning(kind, annotations.Prefix+s.name, s.value, problem))
			}
		}
	}
	if more > 0 {
		warnings = append(warnings, Warning{SettingIgnored, "metadata.annotations", fmt.Sprintf("%d more settings are ignored", more)})
	}
	return warnings
}

// countTogether returns how many of the next settings are numbers of one probe, or 1.
func countTogether(settings []setting) int {
	name, _, dotted := strings.Cut(settings[0].name, ".")
	n := 1
	for dotted && isProbe(name) && n < len(settings) && strings.HasPrefix(settings[n].name, name+".") {
		n++
	}
	return n
}

func isProbe(name string) bool { return slices.Contains(ProbeNames, ProbeName(name)) }

// set sets one setting, or several numbers of one probe.
func (r *Rule) set(group []setting, on object) (kind WarningKind, problem string) {
	value := group[0].value
	name, field, dotted := strings.Cut(group[0].name, ".")
	i := slices.IndexFunc(toggles, func(t toggle) bool { return t.name == group[0].name })
	switch {
	case isProbe(name) && on == driverService:
		return SettingUnused, "a Service has no probes"
	case isProbe(name) && dotted:
		return r.setNumbers(ProbeName(name), group)
	case name == "logStall" && dotted:
		return r.setLogStall(field, value, on)
	case name == "remedy" && dotted:
		return r.setRemedy(field, value, on)
	case annotations.Prefix+group[0].name == annotations.Job:
		return checkJob(value, on)
	case !isProbe(name) && i < 0:
		return SettingIgnored, noSuchSetting
	case value != "true" && value != "false":
		return SettingIgnored, `must be "true" or "false"`
	case isProbe(name) && value == "true" && *r.Probes.Named(ProbeName(name)) == nil:
		return SettingUnused, r.hasNo(ProbeName(name))
	case isProbe(name):
		if value == "false" {
			*r.Probes.Named(ProbeName(name)) = nil
		}
	case toggles[i].of != on && (toggles[i].of != anyPod || on == driverService):
		return SettingUnused, "it applies only to " + string(toggles[i].of)
	default:
		toggles[i].set(r, value == "true")
	}
	return "", ""
}

var noSuchSetting = "there is no such setting; the settings are " + names(ProbeNames, func(n ProbeName) string { return string(n) + "[.<field>]" }) +
	", " + names(toggles, func(t toggle) string { return t.name }) + ", logStall.after, remedy.mode, job"

// checkJob checks a setting that changes no rule: the recorder reads it.
func checkJob(value string, on object) (kind WarningKind, problem string) {
	if on != driverPod {
		return SettingUnused, "it applies only to " + string(driverPod)
	}
	if err := annotations.CheckJob(value); err != nil {
		return SettingIgnored, err.Error()
	}
	return "", ""
}

func (r *Rule) setNumbers(name ProbeName, group []setting) (kind WarningKind, problem string) {
	probe, changed := r.Probes.Named(name), new(corev1.Probe)
	if *probe != nil {
		changed = (*probe).DeepCopy()
	}
	for _, s := range group {
		if problem := setNumber(changed, strings.TrimPrefix(s.name, string(name)+"."), s.value); problem != "" {
			return SettingIgnored, problem
		}
	}
	if *probe == nil {
		return SettingUnused, r.hasNo(name)
	}
	setDefaults(changed)
	if errs := r.checkProbe(name, changed, field.NewPath(string(name))); len(errs) > 0 {
		return SettingIgnored, errs[0].Detail
	}
	*probe = changed
	return "", ""
}

func setNumber(of *corev1.Probe, number, value string) (problem string) {
	i := slices.IndexFunc(numericFields, func(f numericField) bool { return f.name == number })
	if i < 0 {
		return "a probe has no such number; the numbers are " + names(numericFields, func(f numericField) string { return f.name })
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 || n == 0 && number != "initialDelaySeconds" {
		return `must be a whole number above 0, such as "30"`
	}
	numericFields[i].set(of, n)
	return ""
}

func (r *Rule) hasNo(name ProbeName) string {
	if r.Name == "" {
		return "no rule matches this pod"
	}
	return fmt.Sprintf("the rule %s has no %s probe; %s chooses another rule", r.Name, name, annotations.Rule)
}

func names[T any](list []T, name func(T) string) string {
	all := make([]string, len(list))
	for i, each := range list {
		all[i] = name(each)
	}
	return strings.Join(all, ", ")
}
