package stall

import (
	"encoding/json"
	"time"
)

// Mark is the annotation "stalled" of a driver. It stays on a driver that ended without
// another line.
type Mark struct {
	Since      time.Time  `json:"since"` // when the log was written last, in UTC
	Found      time.Time  `json:"found"` // when it was reported
	Confidence Confidence `json:"confidence"`
	Evidence   Evidence   `json:"evidence"`
	Message    string     `json:"message"`
}

// NewMark returns the mark of a driver.
func NewMark(since, found time.Time, e Evidence) *Mark {
	m := &Mark{Since: second(since), Found: second(found), Confidence: Judge(e), Evidence: e}
	m.Message = m.describe()
	return m
}

// Is reports whether the mark is about the silence that began then.
func (m *Mark) Is(since time.Time) bool { return m != nil && m.Since.Equal(second(since)) }

func second(t time.Time) time.Time { return t.Round(0).UTC().Truncate(time.Second) }

func (m *Mark) String() string {
	text, _ := json.Marshal(m) // cannot fail for texts, numbers and times
	return string(text)
}

// ParseMark reads what [Mark.String] wrote.
func ParseMark(text string) (*Mark, error) {
	m := &Mark{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, err
	}
	return m, nil
}
