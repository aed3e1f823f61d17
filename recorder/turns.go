package recorder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/oom"
)

const (
	// How much later a replica writes that lets another go first: longer each
	// time that both wrote, as happens when the API server is slow.
	behindAtLeast, behindAtMost = 2 * time.Second, 16 * time.Second
	// Deaths that are older say nothing of who writes now: they may be this
	// replica's own, of before it was restarted.
	turnsOver = time.Minute
	// Deaths that are remembered as written by this replica.
	maxMine = 8192
)

// turns keep replicas out of each other's way without an election: who finds
// that another one has written lets it go first from then on, and who finds it
// has not goes first again. It decides when a death is written, never whether.
type turns struct {
	mine   *lru.Cache
	behind atomic.Int64 // a time.Duration
}

func newTurns() turns { return turns{mine: lru.New(maxMine)} }

// wait for another replica to write.
func (t *turns) wait() time.Duration {
	behind := time.Duration(t.behind.Load())
	return behind + rand.N(behind/2+1)
}

// wrote: it was this replica's turn.
func (t *turns) wrote(driver types.UID, all []oom.Termination) {
	for i := range all {
		t.mine.Add(turn(driver, &all[i]), nil)
	}
	t.behind.Store(0)
}

// found deaths written, by this replica or by another, before or after it tried.
func (t *turns) found(driver types.UID, all []oom.Termination, tried bool, now time.Time) {
	if !slices.ContainsFunc(all, func(d oom.Termination) bool {
		_, mine := t.mine.Get(turn(driver, &d))
		return !mine && now.Sub(d.At.Time) < turnsOver
	}) {
		return
	}
	behind := max(time.Duration(t.behind.Load()), behindAtLeast)
	if tried {
		behind = min(2*behind, behindAtMost)
	}
	t.behind.Store(int64(behind))
}

func turn(driver types.UID, t *oom.Termination) string {
	return fmt.Sprint(driver, t.Set, t.Number, t.Cause)
}
