package annotations

import (
	"encoding/json"
	"slices"
)

// Mode is how much is done to a pod, in the words of [Inject].
type Mode string

// The modes.
const (
	Disabled Mode = "disabled"
	Audit    Mode = "audit" // stamps say what would be done, and nothing is done
	Enabled  Mode = "enabled"
)

// The words of [MemorySource].
const (
	FromPod   = "pod"
	Estimated = "estimated"
)

// MaxBytes is the API server's limit for all annotations of an object together, with
// keys and values (apimachinery, TotalAnnotationSizeLimitB).
const MaxBytes = 256 << 10

// Stamp is the value of [Injected], as JSON: what the webhook did to a pod.
type Stamp struct {
	Mode Mode              `json:"mode,omitempty"` // absent for enabled
	Rule string            `json:"rule"`
	Set  []string          `json:"set,omitempty"`
	Left map[string]string `json:"left,omitempty"` // field: why, for example ChangedByAnother
	// BlockManagerPort is the port that an executor would listen on. It is set only in
	// audit: otherwise the pod declares it.
	BlockManagerPort int32 `json:"blockManagerPort,omitempty"`
}

// ReadStamp reads the value of [Injected]. It returns an empty stamp for a value that
// it cannot read.
func ReadStamp(value string) (s Stamp) {
	if json.Unmarshal([]byte(value), &s) != nil {
		return Stamp{}
	}
	return s
}

// ChangedByAnother is the reason for which the webhook leaves alone a field that it set
// in an earlier round.
const ChangedByAnother = "set by spark-vitals, and changed by another since"

// HasSet reports whether the webhook set a field, such as "livenessProbe".
func (s Stamp) HasSet(field string) bool { return slices.Contains(s.Set, field) }

// String returns the stamp as the annotation has it.
func (s Stamp) String() string { return asJSON(s) }
