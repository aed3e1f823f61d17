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
	// How much later a replica writes that lets another one go first. A death is recorded
	// so much later if the first replica is gone. It is longer than the first one waits
	// for a driver's UI.
	secondDelay = 1200 * time.Millisecond
	// How often in a row a replica that goes second writes first, until it goes first. The
	// other one may only be slow now and then: then two that both go first write twice.
	goesFirstAfter = 8
	// Deaths that are remembered as written by this replica.
	maxWritten = 8192
)

// replicas decides which replica writes first, without an election. If a replica finds
// that another one has written a death, it goes second from then on. If it finds that
// none has, it goes first again. This decides when a death is written, never whether.
// Without it two replicas try 1.8 patches a death instead of 1.0 ("make bench").
type replicas struct {
	written *lru.Cache   // by this replica
	second  atomic.Int32 // how often it is to write until it goes first
}

func newReplicas() replicas { return replicas{written: lru.New(maxWritten)} }

// delay returns how long to wait for another replica to write.
func (r *replicas) delay() time.Duration {
	if r.second.Load() > 0 {
		return secondDelay
	}
	return 0
}

// wrote notes deaths that this replica wrote.
func (r *replicas) wrote(driver types.UID, all []oom.Termination) {
	for i := range all {
		r.written.Add(deathKey(driver, &all[i]), nil)
	}
	if left := r.second.Load(); left > 0 {
		r.second.CompareAndSwap(left, left-1)
	}
}

// hasWritten reports whether this replica wrote a death, and was answered.
func (r *replicas) hasWritten(driver types.UID, death *oom.Termination) bool {
	_, ok := r.written.Get(deathKey(driver, death))
	return ok
}

// found notes deaths that were written already. Old ones do not show who writes now:
// this replica may have written them before it was restarted.
func (r *replicas) found(driver types.UID, record *oom.Record, facts []fact, now time.Time) {
	for i := range facts {
		f := &facts[i].Termination
		if !r.hasWritten(driver, f) && record.Holds(f) && now.Sub(f.At.Time) < time.Minute {
			r.second.CompareAndSwap(0, goesFirstAfter)
		}
	}
}

func deathKey(driver types.UID, t *oom.Termination) string {
	return fmt.Sprint(driver, t.Set, t.Number, t.Cause)
}
