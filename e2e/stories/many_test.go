package stories

import (
	"fmt"
	"sync"
	"testing"
)

// Ten applications at once starve a node of two cores: probes are late and ports open
// late, and nothing may be ended because of that.
func TestMany(t *testing.T) {
	const applications = 10
	s := story{
		name: "ten-at-once", why: "ten applications on a starved node", versions: []string{newest},
		app: app{file: "shuffle.py", args: []string{"1", "0"}, conf: fast(nil)},
	}
	s.run(t, func(t *testing.T, version string) {
		succeeded := map[bool]int{}
		for _, with := range []bool{true, false} {
			runs := make([]*run, applications)
			var wait sync.WaitGroup
			turns := make(chan struct{}, 3) // of spark-submit, which is a JVM of its own
			for i := range runs {
				wait.Go(func() {
					turns <- struct{}{}
					defer func() { <-turns }()
					runs[i] = submit(t, fmt.Sprintf("%s-%d", s.name, i), version, s.app, with)
				})
			}
			wait.Wait()
			if t.Failed() {
				return // not all are there
			}
			for _, r := range runs {
				r.untilDriverEnds(t)
				o := r.outcome()
				if o.result == "Succeeded 0" {
					succeeded[with]++
				}
				if lost := r.lost(r.log(t)); with && (r.killed() || len(lost) > 0) {
					t.Errorf("%s: ended by the kubelet: %v; executors lost: %q", r.Namespace, r.killed(), lost)
				}
			}
			theTable.add(t, s.name, runs[0], fmt.Sprintf("%d of %d succeeded; figures of the first", succeeded[with], applications))
			if !t.Failed() { // else they are kept first
				for _, r := range runs {
					remove(t, r.Namespace)
				}
			}
		}
		if succeeded[true] < succeeded[false] {
			t.Errorf("with spark-vitals %d of %d succeeded, without %d", succeeded[true], applications, succeeded[false])
		}
	})
}
