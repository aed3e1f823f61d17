package gateway

import (
	"encoding/json"
	"time"
)

// Mark is the value of the annotation [annotations.Released], as JSON: the
// gateway has forgotten the engine, or never knew it. It is written last, so a
// driver with it needs nothing more.
type Mark struct {
	Gateway string    `json:"gateway"`
	At      time.Time `json:"at"` // whole seconds
	// Registration is Deregistered or NotRegistered.
	Registration Outcome `json:"registration"`
	// Sessions that were closed.
	Sessions int `json:"sessions"`
	// Collateral are other engines that were deregistered too, by their
	// references; only Kyuubi's REST way can do that.
	Collateral []string `json:"collateral,omitempty"`
}

// Outcome of a release.
type Outcome string

// What has become of the registration.
const (
	Deregistered Outcome = "deregistered"
	// NotRegistered: none carried the engine's keys. It died before it
	// registered, or its registration had expired already. Without it there is
	// no proof whose the sessions are, so none is closed.
	NotRegistered Outcome = "not-registered"
)

// String is the mark as the annotation has it.
func (m Mark) String() string {
	m.At = m.At.UTC().Truncate(time.Second)
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts, numbers and a time of this era
	}
	return string(text)
}
