package stall_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/stall"
)

const after = 30 * time.Minute

// spread is how much later than it must a log may be asked for.
const spread = after / 20

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(minutes float64) time.Time { return noon.Add(time.Duration(minutes * float64(time.Minute))) }

func (s steps) check(t *testing.T, track *stall.Track) {
	t.Helper()
	for _, each := range s {
		if got := track.Saw(each.now, each.line); got != each.want {
			t.Errorf("at %s, last line at %s: %v, want %v", each.now.Format(time.TimeOnly), each.line.Format(time.TimeOnly), got, each.want)
		}
		if due := track.Due(); due.Before(each.due) || due.After(each.due.Add(spread)) {
			t.Errorf("at %s: due at %s, want %s", each.now.Format(time.TimeOnly), due.Format(time.TimeOnly), each.due.Format(time.TimeOnly))
		}
	}
}

type steps []struct {
	now, line time.Time
	want      stall.Verdict
	due       time.Time // at the earliest, and at most spread later
}

func TestTrack(t *testing.T) {
	never := time.Time{}
	for name, c := range map[string]struct {
		behind, started time.Duration
		steps           steps
	}{
		"wrote five minutes ago, not asked again for twenty-five": {steps: steps{{at(30), at(25), stall.Talks, at(55)}}},
		"silent, asked again, stalled": {steps: steps{
			{at(30), at(0), stall.Silent, at(33)}, {at(33), at(0), stall.Stalled, at(38)}, {at(38), at(0), stall.Stalled, at(43)},
		}},
		"talks between the looks": {steps: steps{{at(30), at(0), stall.Silent, at(33)}, {at(33), at(32), stall.Talks, at(62)}}},
		"talks again":             {steps: steps{{at(30), at(0), stall.Silent, at(33)}, {at(33), at(0), stall.Stalled, at(38)}, {at(38), at(38), stall.Talks, at(68)}}},
		"asked too early again":   {steps: steps{{at(30), at(0), stall.Silent, at(33)}, {at(31), at(0), stall.Silent, at(33)}}},
		"another old line":        {steps: steps{{at(30), at(0), stall.Silent, at(33)}, {at(90), at(31), stall.Silent, at(93)}}},
		// The kubelet shows the newest file alone, which is empty after a rotation.
		"rotated while it talked":      {steps: steps{{at(30), at(30), stall.Talks, at(60)}, {at(60), never, stall.Talks, at(90)}, {at(90), never, stall.Silent, at(93)}}},
		"empty at the first look":      {steps: steps{{at(30), never, stall.Unclear, at(60)}, {at(60), never, stall.Silent, at(63)}, {at(63), never, stall.Stalled, at(68)}}},
		"written after it was rotated": {steps: steps{{at(30), never, stall.Unclear, at(60)}, {at(60), at(59), stall.Talks, at(89)}}},
		// Clocks.
		"the node's is ahead: its line is as old as our first sight of it": {steps: steps{
			{at(30), at(50), stall.Talks, at(60)}, {at(60), at(50), stall.Silent, at(63)},
		}},
		"the node's is behind": {behind: 20 * time.Minute, steps: steps{{at(40), at(10), stall.Talks, at(60)}}},
	} {
		t.Run(name, func(t *testing.T) {
			track := stall.NewTrack(after, c.behind, noon.Add(-c.started), noon)
			c.steps.check(t, track)
		})
	}
}

func TestNewTrack(t *testing.T) {
	for name, c := range map[string]struct{ started, want time.Time }{
		"just started":           {at(0), at(30)},
		"started long ago":       {at(-600), at(0)},
		"started in the future":  {at(10), at(30)},
		"started twenty minutes": {at(-20), at(10)},
	} {
		if due := stall.NewTrack(after, 0, c.started, noon).Due(); due.Before(c.want) || due.After(c.want.Add(spread)) {
			t.Errorf("%s: due at %s", name, due)
		}
	}
}

// A new leader knows the silence by its mark, whatever the node's clock.
func TestResume(t *testing.T) {
	for _, ahead := range []float64{0, 1, 40, 300} {
		began, line := at(ahead), at(10+ahead)
		track := stall.NewTrack(after, 0, began, noon)
		now := at(11)
		for track.Saw(now, line) != stall.Stalled {
			now = track.Due()
		}
		mark := stall.NewMark(track.Heard(), now, annotations.StallEvidence{LastLine: line})
		now = now.Add(time.Minute)
		next := func() *stall.Track {
			track := stall.NewTrack(after, 0, began, now)
			track.Resume(mark.Since, mark.Evidence.LastLine, now)
			return track
		}
		if track := next(); !track.Due().Equal(now) || track.Saw(now, line) != stall.Silent || !mark.Is(track.Heard()) || track.Saw(track.Due(), line) != stall.Stalled {
			t.Errorf("ahead by %v minutes: silent since %s, and by the mark %s", ahead, track.Heard(), mark.Since)
		}
		for what, other := range map[string]time.Time{"another line": line.Add(time.Second), "rotated": {}} {
			if track := next(); track.Saw(now, other) == stall.Stalled || mark.Is(track.Heard()) {
				t.Errorf("ahead by %v minutes, %s: still the silence of the mark", ahead, what)
			}
		}
	}
}

// A minute's silence is not asked after every few seconds.
func TestPauseGrows(t *testing.T) {
	track := stall.NewTrack(time.Minute, 0, noon, noon)
	for now := track.Due(); now.Before(at(60)); now = track.Due() {
		if verdict := track.Saw(now, noon); verdict == stall.Stalled {
			if pause, least := track.Due().Sub(now), min(max(now.Sub(noon)/6, time.Minute), 5*time.Minute); pause < least || pause > least+3*time.Second {
				t.Errorf("silent for %s, asked again after %s", now.Sub(noon), pause)
			}
		}
	}
}

// What cannot be asked is not silent, and is asked less and less often.
func TestFailed(t *testing.T) {
	track := stall.NewTrack(after, 0, at(-60), noon)
	now, pauses := noon, []time.Duration{}
	for range 12 {
		track.Failed(now)
		pauses = append(pauses, track.Due().Sub(now))
		now = track.Due()
	}
	if first, last := pauses[0], pauses[11]; first > 30*time.Second+spread || last < after/2 || last > after/2+spread {
		t.Errorf("pauses %v", pauses)
	}
	if track.IsSilent() {
		t.Error("silent")
	}
}

func TestBehind(t *testing.T) {
	for name, c := range map[string]struct{ started, want float64 }{
		"as it should be": {0.1, 0}, "a busy kubelet": {5, 0}, "whole seconds": {-1. / 60, 0}, "behind": {-20, 20},
	} {
		started := metav1.NewTime(at(c.started))
		pod := &corev1.Pod{Status: corev1.PodStatus{StartTime: &started, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)},
		}}}
		if got := stall.Behind(pod); got != at(c.want).Sub(noon) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := stall.Behind(&corev1.Pod{}); got != 0 {
		t.Errorf("unknown: %s", got)
	}
}

// For any driver that writes when it likes, on a node whose clock is off, with
// kubelets that do not always answer: it is not asked before its last known line
// would be too old; it is never stalled unless it was silent for that long, by
// our own clock less what the node's is off; and a silence is found in time.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		after := time.Duration(rapid.IntRange(60, 7200).Draw(t, "after, s")) * time.Second
		off := time.Duration(rapid.SampledFrom([]int{0, 0, -300, 300}).Draw(t, "node's clock, s")) * time.Second
		gaps := rapid.SliceOfN(rapid.IntRange(1, 3*int(after/time.Second)), 1, 20).Draw(t, "gaps, s")
		lines := []time.Time{noon}
		for _, gap := range gaps {
			lines = append(lines, lines[len(lines)-1].Add(time.Duration(gap)*time.Second))
		}
		end := lines[len(lines)-1].Add(3 * after)
		track := stall.NewTrack(after, max(-off, 0), noon.Add(off), noon)
		asked, line, heard, failures := time.Time{}, time.Time{}, noon, 0
		stalledAt := time.Time{}
		for now := track.Due(); now.Before(end); now = track.Due() {
			if !now.After(asked) {
				t.Fatalf("asked again at once, at %s", now)
			}
			asked = now
			if rapid.IntRange(0, 9).Draw(t, "answers") == 0 {
				track.Failed(now)
				failures++
				continue
			}
			last := lines[0]
			for _, line := range lines {
				if !line.After(now) {
					last = line
				}
			}
			if failures == 0 && !track.IsSilent() && now.Before(heard.Add(after)) {
				t.Fatalf("asked at %s, though it had written at %s", now, heard)
			}
			verdict := track.Saw(now, last.Add(off))
			silence := now.Sub(last)
			if verdict == stall.Stalled && silence < after {
				t.Fatalf("stalled after a silence of %s", silence)
			}
			if verdict == stall.Talks && silence >= after+max(off, 0) {
				t.Fatalf("talks after a silence of %s", silence)
			}
			if verdict == stall.Stalled && last.Equal(lines[len(lines)-1]) && stalledAt.IsZero() {
				stalledAt = now
			}
			if !last.Equal(line) {
				line, heard = last, last
				if last.Add(off).After(now) {
					heard = now
				}
			}
		}
		if failures == 0 && (stalledAt.IsZero() || stalledAt.After(lines[len(lines)-1].Add(after*13/10+2*max(off, 0)+after/20))) {
			t.Fatalf("silent since %s, found at %s", lines[len(lines)-1], stalledAt)
		}
	})
}
