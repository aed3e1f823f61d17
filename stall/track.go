package stall

import (
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verdict on a log after a look at its end.
type Verdict int

// The verdicts.
const (
	Unclear Verdict = iota // the first look, at an empty log: never written, or just rotated
	Talks                  // the last line is young enough
	Silent                 // for too long, and to be asked again before anything is said
	Stalled                // for too long, and still so when it was asked again
)

// Track is what is known of the log of a container, and when to ask for it. It
// is asked for when the last line that is known would be too old, and not before.
type Track struct {
	// After is how long the log may be silent.
	After time.Duration

	behind   time.Duration // the node's clock
	seen     bool
	line     time.Time // of the last line by the node's clock; zero: the log was empty
	heard    time.Time // when the log was written last, by our clock
	silent   time.Time // when it was first found silent for too long; zero: it is not
	due      time.Time
	failures int
}

// NewTrack of a container that started, by its node's clock, which is behind.
func NewTrack(after, behind time.Duration, started, now time.Time) *Track {
	t := &Track{After: after, behind: behind}
	t.heard = t.written(started, now)
	t.due = latest(t.heard.Add(after), now).Add(t.spread())
	return t
}

// Due is when to ask.
func (t *Track) Due() time.Time { return t.due }

// Resume from a report of a silence that began then, after that line: asked at
// once, and as silent if the line is still the last. It has been dated, and is not
// dated anew: by the node's clock it may be of the future. Zero is a log that was
// empty; that of a container that began since may be so too.
func (t *Track) Resume(since, line, now time.Time) {
	if !since.After(now) {
		if line.IsZero() {
			since = latest(t.heard, since)
		}
		t.heard, t.line = since, line
	}
	t.seen, t.due = true, now
}

// AskAt another time than when it is due.
func (t *Track) AskAt(at time.Time) { t.due = at }

// Heard is when the log was written last, by our clock, as far as is known.
func (t *Track) Heard() time.Time { return t.heard }

// IsSilent tells whether it was silent for too long at the last look.
func (t *Track) IsSilent() bool { return !t.silent.IsZero() }

// Saw the time of the last line; zero where the log is empty.
func (t *Track) Saw(now, line time.Time) Verdict {
	first := !t.seen
	if first || !line.Equal(t.line) {
		t.heard, t.silent = latest(t.heard, t.written(line, now)), time.Time{}
	}
	t.seen, t.line, t.failures = true, line, 0
	switch {
	case now.Sub(t.heard) < t.After:
		t.silent, t.due = time.Time{}, t.heard.Add(t.After+t.spread())
		if first && line.IsZero() {
			return Unclear
		}
		return Talks
	case t.silent.IsZero():
		t.silent = now
	case now.Sub(t.silent) >= t.confirm():
		t.due = now.Add(t.again(now) + t.spread())
		return Stalled
	}
	t.due = t.silent.Add(t.confirm())
	return Silent
}

// Failed to ask: nothing is known that was not known before.
func (t *Track) Failed(now time.Time) {
	pause := min(firstRetry<<min(t.failures, 10), max(t.After/2, firstRetry))
	t.failures++
	t.due = now.Add(pause + t.spread())
}

const firstRetry = 30 * time.Second

// written is when a line was, by our clock. One from the future was written at
// the latest when it is first seen; an empty log was rotated, at the latest now,
// because the kubelet rotates what is written to.
func (t *Track) written(line, now time.Time) time.Time {
	if line = line.Add(t.behind); line.After(now) || line.Unix() <= 0 {
		return now
	}
	return line
}

// confirm is the pause before the second look. It is longer than spread, so that
// what falls silent at once is seen together before any of it is told.
func (t *Track) confirm() time.Duration { return max(t.After/10, 5*time.Second) }

// again is the pause between looks at one that is stalled. The longer it is
// silent, the longer: what may be silent for a minute only is not to be asked all
// day every few seconds.
func (t *Track) again(now time.Time) time.Duration {
	return min(max(now.Sub(t.heard)/6, time.Minute), 5*time.Minute)
}

// spread keeps drivers that started together from being asked together.
func (t *Track) spread() time.Duration { return rand.N(t.After / 20) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Behind is how far the clock of a pod's node is behind that of the API server,
// as the pod shows it: the kubelet cannot have taken the pod before the API
// server gave it away. Both times are in whole seconds.
func Behind(pod *corev1.Pod) time.Duration {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue && pod.Status.StartTime != nil {
			if behind := c.LastTransitionTime.Sub(pod.Status.StartTime.Time); behind > time.Second {
				return behind
			}
		}
	}
	return 0
}
