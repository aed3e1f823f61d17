package recorder

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/oom"
)

const (
	// How much later a replica writes that lets another one go first. A death is recorded
	// so much later if the first replica is gone. It is longer than the first one waits
	// for a driver's UI.
	secondDelay = 1200 * time.Millisecond
	// The lease's name, and how long it lasts without being renewed. Until then a death is
	// written secondDelay later if its holder is gone. Then another replica goes first.
	leaseName                                   = "spark-vitals-recorder"
	leaseDuration, renewDeadline, leaseInterval = 15 * time.Second, 10 * time.Second, 4 * time.Second
	// Deaths that are remembered as written by this replica.
	maxWritten = 8192
)

// replicas decides which replica writes first: the one that holds a lease. The others
// find it written, or write it themselves. So the lease decides when a death is written,
// never whether. If nobody is known to hold it, each replica goes first. Without it two
// replicas try 1.8 patches a death instead of 1.0 ("make bench").
type replicas struct {
	written *lru.Cache // by this replica
	second  atomic.Bool
}

func newReplicas() replicas { return replicas{written: lru.New(maxWritten)} }

// elect takes part in the election until the context ends.
func (r *recorder) elect(ctx context.Context) error {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: r.LeaseNamespace, Name: leaseName}, Client: r.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: r.instance},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseInterval, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {},
			OnNewLeader: func(holder string) { r.replicas.second.Store(holder != "" && holder != r.instance) },
		},
	})
	if err != nil {
		return err
	}
	wait.UntilWithContext(ctx, elector.Run, leaseInterval) // it returns if it loses the lease
	return nil
}

// delay returns how long to wait for another replica to write.
func (r *replicas) delay() time.Duration {
	if r.second.Load() {
		return secondDelay
	}
	return 0
}

// wrote notes deaths that this replica wrote.
func (r *replicas) wrote(driver types.UID, all []oom.Termination) {
	for i := range all {
		r.written.Add(deathKey(driver, &all[i]), nil)
	}
}

// hasWritten reports whether this replica wrote a death, and was answered.
func (r *replicas) hasWritten(driver types.UID, death *oom.Termination) bool {
	_, ok := r.written.Get(deathKey(driver, death))
	return ok
}

func deathKey(driver types.UID, t *oom.Termination) string {
	return fmt.Sprint(driver, t.Set, t.Number, t.Cause)
}
