package annotations

import (
	"encoding/json"
	"regexp"
	"time"
)

// RemedyPlan is what the later executors of an application are to get, because earlier
// ones died of memory. The value of [Remedy] is a list of them, as JSON: one for each
// resource profile whose executors died.
type RemedyPlan struct {
	// Application and Profile are those of the executors that it is for, as their labels
	// have them. A pod may start a second application after the first.
	Application string `json:"application"`
	Profile     string `json:"profile"`
	Mode        Mode   `json:"mode"` // Enabled; or Audit: no executor is changed
	// FromCores is how many cores Spark gives such an executor, and ToCores how many it is
	// to get. They are the same if nothing is to change.
	FromCores int `json:"fromCores"`
	ToCores   int `json:"toCores"`
	// Memory is how much more memory such an executor is to get; nil if no more.
	Memory *RemedyMemory `json:"memory,omitempty"`
	// Withdrawn is why such executors no longer get more memory, for the rest of the
	// application; a sentence without a full stop.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Until is when it ends, unless another executor dies of memory before; in whole
	// seconds.
	Until time.Time `json:"until"`
	// Refused is why nothing is done, or nothing more; a sentence without a full stop.
	Refused string `json:"refused,omitempty"`
	// Run is the name of the driver of an earlier run of the same job, if that run needed
	// it. It is "" if executors of this application died.
	Run string `json:"run,omitempty"`
}

// RemedyMemory is how the memory of a container of Spark's changes. Amounts are in MiB.
type RemedyMemory struct {
	FromLimitMiB int64 `json:"fromLimitMiB"` // of Spark's container
	ToLimitMiB   int64 `json:"toLimitMiB"`
	FromHeapMiB  int64 `json:"fromHeapMiB"`
	ToHeapMiB    int64 `json:"toHeapMiB"` // may be the same
	// Executors is how many executors of the resource profile ran before the death. If
	// fewer run for long, more memory keeps executors from starting. A stamp has none.
	Executors int `json:"executors,omitempty"`
	// Started is true if it was withdrawn although an executor had started with it.
	Started bool `json:"started,omitempty"`
}

func (m *RemedyMemory) valid() bool {
	heap := 1 <= m.FromHeapMiB && m.FromHeapMiB <= m.ToHeapMiB && m.ToHeapMiB < m.ToLimitMiB
	return heap && m.FromHeapMiB < m.FromLimitMiB && m.FromLimitMiB < m.ToLimitMiB && m.ToLimitMiB <= MaxRemedyMiB && 0 <= m.Executors
}

// Bounds of [Remedy]. Whoever may write it decides what it costs its readers.
const (
	MaxRemedy      = 2 << 10 // bytes
	maxPlans       = 3
	maxRefused     = 300 // bytes
	maxApplication = 63  // of a label's value
	maxRun         = 253 // of a pod's name
	// MaxRemedyCores is how many cores an executor has at most that is changed.
	MaxRemedyCores = 1024
	// MaxRemedyMiB is the largest limit that such an executor gets, 4 TiB.
	MaxRemedyMiB = 4 << 20
)

var profileID = regexp.MustCompile(`^[0-9]{1,9}$`)

// valid reports whether a plan is one that may be written and acted on.
func (p *RemedyPlan) valid() bool {
	switch {
	case p.Application == "", len(p.Application) > maxApplication, !profileID.MatchString(p.Profile), len(p.Refused) > maxRefused, len(p.Withdrawn) > maxRefused, len(p.Run) > maxRun:
		return false
	case p.Memory != nil && !p.Memory.valid(), p.Until.Year() > 9998:
		return false
	case p.Mode != Audit && p.Mode != Enabled:
		return false
	}
	return 1 <= p.ToCores && p.ToCores <= p.FromCores && p.FromCores <= MaxRemedyCores
}

// Changes reports whether an executor is to be changed.
func (p *RemedyPlan) Changes() bool { return p.FewerCores() || p.MoreMemory() }

// FewerCores reports whether an executor is to get fewer cores.
func (p *RemedyPlan) FewerCores() bool { return p.ToCores < p.FromCores }

// MoreMemory reports whether an executor is to get more memory.
func (p *RemedyPlan) MoreMemory() bool { return p.Memory != nil && p.Withdrawn == "" }

// ReadRemedy reads the value of [Remedy]. It leaves out what is not valid.
func ReadRemedy(value string) (valid []RemedyPlan) {
	var all []RemedyPlan
	if value == "" || len(value) > MaxRemedy || json.Unmarshal([]byte(value), &all) != nil {
		return nil
	}
	for _, p := range all {
		if p.valid() && len(valid) < maxPlans {
			valid = append(valid, p)
		}
	}
	return valid
}

// RemedyText returns the value of [Remedy] with these plans, or "" if there are none.
// It leaves out what is not valid, and the last ones if there are too many.
func RemedyText(plans []RemedyPlan) string {
	var valid []RemedyPlan
	for _, p := range plans {
		p.Until = p.Until.UTC().Truncate(time.Second)
		if p.valid() && len(valid) < maxPlans {
			valid = append(valid, p)
		}
	}
	for ; len(valid) > 0; valid = valid[:len(valid)-1] {
		if text := asJSON(valid); len(text) <= MaxRemedy {
			return text
		}
	}
	return ""
}

// RemedyTerms is the value of [RemedyRule], as JSON: what the rule of a pod lets the
// recorder plan if such pods die of memory. A driver has only NextRun and MaxMemoryMiB.
type RemedyTerms struct {
	Mode Mode `json:"mode,omitempty"`
	// AfterDeaths is how many executors must have died with the cores that Spark gave
	// them.
	AfterDeaths int `json:"afterDeaths,omitempty"`
	// MaxMemoryMiB is the largest limit that the container may get; 0 if its memory is not
	// raised.
	MaxMemoryMiB int64 `json:"maxMemoryMiB,omitempty"`
	// NextRun is whether the next run of the same job starts with what this one needed:
	// Audit, Enabled, or "" for no.
	NextRun Mode `json:"nextRun,omitempty"`
}

// MaxAfterDeaths bounds AfterDeaths: so many deaths a record has in detail.
const MaxAfterDeaths = 10

// ReadRemedyTerms reads the value of [RemedyRule] on an executor. ok is false for a value
// that cannot be read.
func ReadRemedyTerms(value string) (r RemedyTerms, ok bool) {
	err := json.Unmarshal([]byte(value), &r)
	return r, err == nil && (r.Mode == Audit || r.Mode == Enabled) && 1 <= r.AfterDeaths && r.AfterDeaths <= MaxAfterDeaths && 0 <= r.MaxMemoryMiB && r.MaxMemoryMiB <= MaxRemedyMiB
}

// ReadNextRun reads from the value of [RemedyRule], on any pod, whether the next run
// starts with what this one needed, and the largest limit in MiB. mode is "" for no. An
// executor whose remedy is in audit has its next run in audit, too.
func ReadNextRun(value string) (mode Mode, maxMemoryMiB int64) {
	var r RemedyTerms
	if json.Unmarshal([]byte(value), &r) != nil || r.NextRun != Audit && r.NextRun != Enabled {
		return "", 0
	}
	if mode = r.NextRun; r.Mode == Audit {
		mode = Audit
	}
	return mode, min(max(r.MaxMemoryMiB, 0), MaxRemedyMiB)
}

// String returns the terms as the annotation has it.
func (r RemedyTerms) String() string { return asJSON(r) }

// RemedyStamp is the value of [Remedied], as JSON: how a pod was changed when it was
// created, because earlier ones died of memory. Only an executor's cores are changed.
type RemedyStamp struct {
	Mode      Mode          `json:"mode,omitempty"` // absent for enabled; Audit: it would have been changed
	FromCores int           `json:"fromCores,omitempty"`
	ToCores   int           `json:"toCores,omitempty"` // 0 if the cores are not changed
	Memory    *RemedyMemory `json:"memory,omitempty"`
}

// ReadRemedyStamp reads the value of [Remedied]. It returns an empty stamp for a value
// that it cannot read.
func ReadRemedyStamp(value string) (s RemedyStamp) {
	if len(value) > MaxRemedy || json.Unmarshal([]byte(value), &s) != nil || !s.valid() {
		return RemedyStamp{}
	}
	return s
}

func (s *RemedyStamp) valid() bool {
	cores := s.FromCores == 0 && s.ToCores == 0 || 1 <= s.ToCores && s.ToCores < s.FromCores && s.FromCores <= MaxRemedyCores
	return cores && (s.Memory == nil || s.Memory.valid()) && (s.Mode == "" || s.Mode == Audit)
}

// String returns the stamp as the annotation has it.
func (s RemedyStamp) String() string { return asJSON(s) }

// ReadNextRunMemory reads the annotation [NextRun] of a SparkJob. It returns nil for a
// value that cannot be read.
func ReadNextRunMemory(value string) *RemedyMemory {
	var m RemedyMemory
	if value == "" || len(value) > MaxRemedy || json.Unmarshal([]byte(value), &m) != nil || !m.valid() {
		return nil
	}
	return &m
}

// String returns the memory as an annotation has it.
func (m RemedyMemory) String() string { return asJSON(m) }
