package stall

import (
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verdict is the result of a look at the end of a log.
type Verdict int

// The verdicts.
const (
	Unclear Verdict = iota // the first look, at an empty log: never written, or just rotated
	Talks                  // the last line is young enough
	Silent                 // for too long; read it again before it is reported
	Stalled                // for too long, and still so at the second look
)

// Track is what is known of a container's log, and when to read it. It is read when the
// last known line would be too old, and not before.
type Track struct {
	// After is how long the log may be silent.
	After time.Duration

	behind   time.Duration // the node's clock
	seen     bool
	line     time.Time // of the last line, by the node's clock; zero if the log was empty
	heard    time.Time // when the log was last written, by the stall watch's clock
	silent   time.Time // when it was first found silent for too long; zero if it is not
	due      time.Time
	failures int
}

// NewTrack returns the track of a container. started is by its node's clock, which is
// behind.
func NewTrack(after, behind time.Duration, started, now time.Time) *Track {
	t := &Track{After: after, behind: behind}
	t.heard = t.written(started, now)
	t.due = latest(t.heard.Add(after), now).Add(t.spread())
	return t
}

// Due returns when to read the log.
func (t *Track) Due() time.Time { return t.due }

// Resume continues from a report of a silence that began at since, after the line. The
// log is read at once, and is silent if the line is still the last. The time of the
// line is final: by the node's clock it may be in the future. A zero line means that
// the log was empty; the log of a container that began later may be empty too.
func (t *Track) Resume(since, line, now time.Time) {
	if !since.After(now) {
		if line.IsZero() {
			since = latest(t.heard, since)
		}
		t.heard, t.line = since, line
	}
	t.seen, t.due = true, now
}

// AskAt sets another time to read the log.
func (t *Track) AskAt(at time.Time) { t.due = at }

// Heard returns when the log was last written, by the stall watch's clock, as far as is
// known.
func (t *Track) Heard() time.Time { return t.heard }

// IsSilent reports whether it was silent for too long at the last look.
func (t *Track) IsSilent() bool { return !t.silent.IsZero() }

// Saw takes the time of the last line, or zero if the log is empty.
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
		t.due = now.Add(t.pause(now) + t.spread())
		return Stalled
	}
	t.due = t.silent.Add(t.confirm())
	return Silent
}

// Failed notes that the log could not be read, so nothing new is known.
func (t *Track) Failed(now time.Time) {
	pause := min(firstRetry<<min(t.failures, 10), max(t.After/2, firstRetry))
	t.failures++
	t.due = now.Add(pause + t.spread())
}

const firstRetry = 30 * time.Second

// written returns when a line was written, by the stall watch's clock. A line from the
// future was written at the latest when it is first seen. An empty log was rotated, at
// the latest now, because the kubelet rotates logs that are written to.
func (t *Track) written(line, now time.Time) time.Time {
	if line = line.Add(t.behind); line.After(now) || line.Unix() <= 0 {
		return now
	}
	return line
}

// confirm returns the pause before the second look. It is longer than spread, so
// drivers that fall silent at once are seen together before one is reported.
func (t *Track) confirm() time.Duration { return max(t.After/10, 5*time.Second) }

// pause returns the pause between looks at a stalled driver. It grows with the silence:
// a driver that may be silent for only a minute must not be read every few seconds all
// day.
func (t *Track) pause(now time.Time) time.Duration {
	return min(max(now.Sub(t.heard)/6, time.Minute), 5*time.Minute)
}

// spread returns a random delay, so drivers that started together are not read
// together.
func (t *Track) spread() time.Duration { return rand.N(t.After / 20) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Behind returns how far the clock of a pod's node is behind that of the API server, as
// the pod shows it: the kubelet cannot have started the pod before the API server
// assigned it. Both times are in whole seconds.
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
