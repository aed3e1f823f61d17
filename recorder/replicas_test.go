package recorder

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// Of two replicas one goes first. When it ends, the other one does.
func TestReplicas(t *testing.T) {
	client := fake.NewClientset()
	elected := func(instance string) (*recorder, context.CancelFunc) {
		r := &recorder{Config: Config{Client: client, LeaseNamespace: "spark-vitals"}, replicas: newReplicas(), instance: instance}
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = r.elect(ctx) }()
		return r, stop
	}
	a, stop := elected("a")
	eventually.True(t, "the first one holds the lease", func() bool {
		lease, err := client.CoordinationV1().Leases("spark-vitals").Get(t.Context(), leaseName, metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == "a"
	})
	b, _ := elected("b")
	eventually.True(t, "the second one lets the first one write", func() bool { return b.replicas.delay() == secondDelay })
	if wait := a.replicas.delay(); wait != 0 {
		t.Errorf("the first one waits for %s", wait)
	}
	stop()
	eventually.True(t, "the second one goes first", func() bool { return b.replicas.delay() == 0 })
}

// Without a lease each replica writes at once.
func TestNoLease(t *testing.T) {
	r := newReplicas()
	if wait := r.delay(); wait != time.Duration(0) {
		t.Errorf("waits for %s", wait)
	}
}
