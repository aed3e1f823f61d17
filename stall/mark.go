package stall

import (
	"encoding/json"
	"time"
)

// Mark is the annotation "stalled" of a driver. It stays on one that ended
// without a word.
type Mark struct {
	Since      time.Time  `json:"since"` // when the log was written last, in UTC
	Found      time.Time  `json:"found"` // when that was reported
	Confidence Confidence `json:"confidence"`
	Evidence   Evidence   `json:"evidence"`
	Message    string     `json:"message"`
}

// NewMark of a driver.
func NewMark(since, found time.Time, e Evidence) *Mark {
	m := &Mark{Since: second(since), Found: second(found), Confidence: Judge(e), Evidence: e}
	m.Message = m.describe()
	return m
}

// Is tells whether it is of that silence.
func (m *Mark) Is(since time.Time) bool { return m != nil && m.Since.Equal(second(since)) }

func second(t time.Time) time.Time { return t.Round(0).UTC().Truncate(time.Second) }

func (m *Mark) String() string {
	text, _ := json.Marshal(m) // of texts, numbers and times: cannot fail
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
