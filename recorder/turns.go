package recorder

import (
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/oom"
)

const (
	// A replica that lets another go first writes so much later. It is also what
	// a death costs whose first replica is gone.
	behind = 500 * time.Millisecond
	// Deaths that are remembered as written by this replica.
	maxMine = 8192
)

// turns keep replicas out of each other's way without an election: who finds
// that another one has written lets it go first from then on, and who finds it
// has not goes first again. It decides when a death is written, never whether.
type turns struct {
	mine   *lru.Cache
	second atomic.Bool
}

func newTurns() turns { return turns{mine: lru.New(maxMine)} }

// wait for another replica to write.
func (t *turns) wait() time.Duration {
	if t.second.Load() {
		return behind
	}
	return 0
}

// wrote: it was this replica's turn.
func (t *turns) wrote(driver types.UID, all []oom.Termination) {
	for i := range all {
		t.mine.Add(turn(driver, &all[i]), nil)
	}
	t.second.Store(false)
}

// isMine tells whether this replica wrote a death, as far as it was answered.
func (t *turns) isMine(driver types.UID, death *oom.Termination) bool {
	_, mine := t.mine.Get(turn(driver, death))
	return mine
}

// found deaths written, by this replica or by another. Old ones say nothing of
// who writes now: they may be this replica's own, of before it was restarted.
func (t *turns) found(driver types.UID, record *oom.Record, facts []fact, now time.Time) {
	for i := range facts {
		f := &facts[i].Termination
		if !t.isMine(driver, f) && record.Holds(f) && now.Sub(f.At.Time) < time.Minute {
			t.second.Store(true)
		}
	}
}

func turn(driver types.UID, t *oom.Termination) string {
	return fmt.Sprint(driver, t.Set, t.Number, t.Cause)
}
