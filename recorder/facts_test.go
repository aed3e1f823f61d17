package recorder

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/oom"
)

// Facts wait once, until they are done, and are there again after a failure.
func TestFacts(t *testing.T) {
	var f facts
	app := application{namespace: "spark", id: "spark-1"}
	one := fact{Termination: oom.Termination{Set: "executors", Number: 1, Cause: oom.Killed}, pod: new(corev1.Pod)}
	same := one
	corrected := one
	corrected.Cause = oom.OOMKilled
	f.add(app, []fact{one})
	f.add(app, []fact{same, corrected})
	if n := f.due(now.Add(time.Hour)); n != 2 {
		t.Fatalf("%d wait, want 2: a termination and its correction", n)
	}
	all, _ := f.take(app, now)
	if again, _ := f.take(app, now); len(all) != 2 || len(again) != 0 || f.due(now.Add(time.Hour)) != 2 {
		t.Fatalf("%d taken, then %d, %d not done", len(all), len(again), f.due(now.Add(time.Hour)))
	}
	f.done(app, all, false)
	if n := f.due(now.Add(time.Hour)); n != 2 || len(f.applications()) != 1 {
		t.Fatalf("%d wait after a failure", n)
	}
}

// What became known while a write failed comes after what it may correct.
func TestFactsInOrder(t *testing.T) {
	var f facts
	app := application{namespace: "spark", id: "spark-1"}
	first := fact{Termination: oom.Termination{Set: "driver", Cause: oom.Killed}, pod: new(corev1.Pod)}
	corrected := first
	corrected.Cause = oom.OOMKilled
	f.add(app, []fact{first})
	failed, _ := f.take(app, now)
	f.add(app, []fact{corrected})
	f.done(app, failed, false)
	all, _ := f.take(app, now)
	if last := latest(all); len(all) != 2 || len(last) != 1 || last[0].Cause != oom.OOMKilled {
		t.Errorf("of %+v the latest are %+v", all, last)
	}
}

// A death that another replica writes first waits, each for itself.
func TestFactsAreDue(t *testing.T) {
	var f facts
	app := application{namespace: "spark", id: "spark-1"}
	for i := range 3 {
		death := oom.Termination{Set: "executors", Number: int64(i), Cause: oom.Killed}
		f.add(app, []fact{{Termination: death, pod: new(corev1.Pod), due: now.Add(time.Duration(i) * time.Second)}})
	}
	all, next := f.take(app, now)
	f.done(app, all, true)
	if len(all) != 1 || next != now.Add(time.Second) || f.due(now.Add(time.Hour)) != 2 {
		t.Fatalf("%d taken, the next is due at %s, %d wait", len(all), next, f.due(now.Add(time.Hour)))
	}
	f.hurry()
	if all, next = f.take(app, now); len(all) != 2 || !next.IsZero() {
		t.Fatalf("%d taken in a hurry, the next is due at %s", len(all), next)
	}
}
