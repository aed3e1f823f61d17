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
	// Until is when it ends, unless another executor dies of memory before; in whole
	// seconds.
	Until time.Time `json:"until"`
	// Refused is why nothing is done, or nothing more; a sentence without a full stop.
	Refused string `json:"refused,omitempty"`
}

// Bounds of [Remedy]. Whoever may write it decides what it costs its readers.
const (
	MaxRemedy      = 1 << 10 // bytes
	maxPlans       = 3
	maxRefused     = 200 // bytes
	maxApplication = 63  // of a label's value
	// MaxRemedyCores is how many cores an executor has at most that is changed.
	MaxRemedyCores = 1024
)

var profileID = regexp.MustCompile(`^[0-9]{1,9}$`)

// Valid reports whether a plan is one that may be written and acted on.
func (p *RemedyPlan) Valid() bool {
	switch {
	case p.Application == "", len(p.Application) > maxApplication, !profileID.MatchString(p.Profile), len(p.Refused) > maxRefused:
		return false
	case p.Mode != Audit && p.Mode != Enabled:
		return false
	}
	return 1 <= p.ToCores && p.ToCores <= p.FromCores && p.FromCores <= MaxRemedyCores
}

// Changes reports whether an executor is to be changed.
func (p *RemedyPlan) Changes() bool { return p.ToCores < p.FromCores }

// ReadRemedy reads the value of [Remedy]. It leaves out what is not valid.
func ReadRemedy(value string) (valid []RemedyPlan) {
	var all []RemedyPlan
	if len(value) > MaxRemedy || json.Unmarshal([]byte(value), &all) != nil {
		return nil
	}
	for _, p := range all {
		if p.Valid() && len(valid) < maxPlans {
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
		if p.Until = p.Until.UTC().Truncate(time.Second); p.Valid() && len(valid) < maxPlans {
			valid = append(valid, p)
		}
	}
	if len(valid) == 0 {
		return ""
	}
	return asJSON(valid)
}

// RemedyTerms is the value of [RemedyRule], as JSON: what the rule of an executor lets
// the recorder plan if such executors die of memory.
type RemedyTerms struct {
	Mode Mode `json:"mode"`
	// AfterDeaths is how many executors must have died with the cores that Spark gave
	// them.
	AfterDeaths int `json:"afterDeaths"`
}

// MaxAfterDeaths bounds AfterDeaths: so many deaths a record has in detail.
const MaxAfterDeaths = 10

// ReadRemedyTerms reads the value of [RemedyRule]. ok is false for a value that cannot be
// read.
func ReadRemedyTerms(value string) (r RemedyTerms, ok bool) {
	err := json.Unmarshal([]byte(value), &r)
	return r, err == nil && (r.Mode == Audit || r.Mode == Enabled) && 1 <= r.AfterDeaths && r.AfterDeaths <= MaxAfterDeaths
}

// String returns the terms as the annotation has it.
func (r RemedyTerms) String() string { return asJSON(r) }

// RemedyStamp is the value of [Remedied], as JSON: how an executor was changed when it was
// created, because earlier ones died of memory.
type RemedyStamp struct {
	Mode      Mode `json:"mode,omitempty"` // absent for enabled; Audit: it would have been changed
	FromCores int  `json:"fromCores"`
	ToCores   int  `json:"toCores"`
}

// ReadRemedyStamp reads the value of [Remedied]. It returns an empty stamp for a value
// that it cannot read.
func ReadRemedyStamp(value string) (s RemedyStamp) {
	if json.Unmarshal([]byte(value), &s) != nil {
		return RemedyStamp{}
	}
	return s
}

// String returns the stamp as the annotation has it.
func (s RemedyStamp) String() string { return asJSON(s) }
