package oom

import (
	"slices"
	"time"
)

// EveryCause returns all causes of the table.
func EveryCause() (all []Cause) {
	for _, row := range causes {
		if row.cause != none && !slices.Contains(all, row.cause) {
			all = append(all, row.cause)
		}
	}
	return all
}

// CauseEnded is the cause of the terminations of [Ended].
const CauseEnded = ended

// Of returns the termination with the UID of a pod.
func (t Termination) Of(uid string) Termination {
	t.uid = uid
	return t
}

// Quick returns the termination as one soon after its start.
func (t Termination) Quick() Termination {
	t.started, t.lived = true, 0
	return t
}

// UID returns the UID of the termination's pod.
func (t Termination) UID() string { return t.uid }

// Ran is the termination as one after so long a run.
func (t Termination) Ran(lived time.Duration) Termination {
	t.started, t.lived = true, lived
	return t
}
