package oom

import (
	"slices"
	"time"
)

// EveryCause is each cause of the table.
func EveryCause() (all []Cause) {
	for _, row := range causes {
		if row.cause != none && !slices.Contains(all, row.cause) {
			all = append(all, row.cause)
		}
	}
	return all
}

// CauseEnded is that of the terminations of [Ended].
const CauseEnded = ended

// Of is the termination as one of a pod with this UID.
func (t Termination) Of(uid string) Termination {
	t.uid = uid
	return t
}

// Quick is the termination as one soon after its start.
func (t Termination) Quick() Termination {
	t.started, t.lived = true, 0
	return t
}

// UID of the termination's pod.
func (t Termination) UID() string { return t.uid }

// Ran is the termination as one after so long a run.
func (t Termination) Ran(lived time.Duration) Termination {
	t.started, t.lived = true, lived
	return t
}
