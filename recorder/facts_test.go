package recorder

import (
	"testing"

	"github.com/spark-vitals/spark-vitals/oom"
)

// Facts wait once, until they are done, and are there again after a failure.
func TestFacts(t *testing.T) {
	var f facts
	app := application{namespace: "spark", id: "spark-1"}
	one := fact{Termination: oom.Termination{Set: "executors", Number: 1, Cause: oom.Killed}}
	same := one
	corrected := one
	corrected.Cause = oom.OOMKilled
	f.add(app, []fact{one})
	f.add(app, []fact{same, corrected})
	if n := f.count(); n != 2 {
		t.Fatalf("%d wait, want 2: a termination and its correction", n)
	}
	all, done := f.take(app)
	if again, _ := f.take(app); len(all) != 2 || len(again) != 0 || f.count() != 2 {
		t.Fatalf("%d taken, then %d, %d not done", len(all), len(again), f.count())
	}
	f.add(app, all) // writing failed
	done()
	if n := f.count(); n != 2 || len(f.applications()) != 1 {
		t.Fatalf("%d wait after a failure", n)
	}
}
