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

// A numericField of a probe, by its Kubernetes name.
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

// A toggle of a rule: what a pod turns on or off by "<name>": "true" or "false".
type toggle struct {
	name string
	role spark.Role // "" for both
	on   func(*Rule) bool
	set  func(*Rule, bool)
}

func flagSwitch(name string, role spark.Role, of func(*Rule) *bool) toggle {
	return toggle{name, role, func(r *Rule) bool { return *of(r) }, func(r *Rule, on bool) { *of(r) = on }}
}

// switches are the fields of a rule that are on or off. A probe is not among
// them: it can be turned off, but not on where the rule has none.
var switches = []toggle{
	flagSwitch("memoryAnnotations", "", func(r *Rule) *bool { return &r.MemoryAnnotations }),
	{
		name: "blockManagerPort", role: spark.Executor,
		on: func(r *Rule) bool { return r.BlockManagerPort != nil },
		set: func(r *Rule, on bool) {
			if !on {
				r.BlockManagerPort = nil
			} else if r.BlockManagerPort == nil {
				r.BlockManagerPort = &PortRange{From: 20000, To: 29999} // as in the set "default"
			}
		},
	},
	flagSwitch("publishNotReadyAddresses", spark.Driver, func(r *Rule) *bool { return &r.PublishNotReadyAddresses }),
	flagSwitch("fallbackToLogsOnError", "", func(r *Rule) *bool { return &r.FallbackToLogsOnError }),
	flagSwitch("exitOnOutOfMemoryError", spark.Driver, func(r *Rule) *bool { return &r.ExitOnOutOfMemoryError }),
}

// apply changes the rule by the settings among a pod's annotations. A setting
// that cannot be read, or would make a probe that the API server refuses or that
// costs the driver its DNS name, is ignored and told. The rule is a copy of the
// caller's own; its probes are copied here before they are changed.
func (r *Rule) apply(settings map[string]string) []Warning {
	var told []Warning
	for _, key := range settingKeys(settings) {
		if problem := r.set(strings.TrimPrefix(key, annotations.Prefix), settings[key]); problem != "" {
			told = append(told, settingWarning(key, settings[key], problem))
		}
	}
	return told
}

// settingKeys are sorted, so that a probe is turned off before its fields are set.
func settingKeys(all map[string]string) (keys []string) {
	for key := range all {
		if strings.HasPrefix(key, annotations.Prefix) && key != annotations.Inject && key != annotations.Rule &&
			!annotations.IsStamp(key) && !annotations.IsRecord(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (r *Rule) set(setting, value string) (problem string) {
	name, number, dotted := strings.Cut(setting, ".")
	probe := slices.Index(ProbeNames, ProbeName(name))
	if probe < 0 || !dotted {
		return r.turn(setting, value, probe >= 0)
	}
	f := slices.IndexFunc(numericFields, func(f numericField) bool { return f.name == number })
	if f < 0 {
		return "a probe has no such number; there are " + names(numericFields, func(f numericField) string { return f.name })
	}
	return r.setNumber(ProbeNames[probe], numericFields[f], value)
}

func (r *Rule) turn(setting, value string, isProbe bool) (problem string) {
	i := slices.IndexFunc(switches, func(s toggle) bool { return s.name == setting })
	if i < 0 && !isProbe {
		return "there is no such setting; there are " + names(ProbeNames, func(n ProbeName) string { return string(n) + "[.<field>]" }) +
			", " + names(switches, func(s toggle) string { return s.name })
	}
	if value != "true" && value != "false" {
		return `must be "true" or "false"`
	}
	on := value == "true"
	if isProbe {
		probe := r.Probes.Named(ProbeName(setting))
		if on && *probe == nil {
			return fmt.Sprintf("the rule %s has no %s probe to turn on; choose another by %s", r.Name, setting, annotations.Rule)
		}
		if !on {
			*probe = nil
		}
		return ""
	}
	if s := switches[i]; s.role != "" && s.role != r.Match.Role {
		return fmt.Sprintf("only for a pod of role %s, and this is a pod of role %s", s.role, r.Match.Role)
	}
	switches[i].set(r, on)
	return ""
}

func (r *Rule) setNumber(name ProbeName, f numericField, value string) (problem string) {
	probe := r.Probes.Named(name)
	if *probe == nil {
		return fmt.Sprintf("the rule %s has no %s probe", r.Name, name)
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		return `must be a whole number, such as "30"`
	}
	changed := (*probe).DeepCopy()
	f.set(changed, n)
	setDefaults(changed)
	if errs := r.checkProbe(name, changed, field.NewPath(string(name))); len(errs) > 0 {
		return errs[0].Detail
	}
	*probe = changed
	return ""
}

func names[T any](list []T, name func(T) string) string {
	all := make([]string, len(list))
	for i, each := range list {
		all[i] = name(each)
	}
	return strings.Join(all, ", ")
}
