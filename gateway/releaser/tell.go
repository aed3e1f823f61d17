package releaser

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
)

// tellRelease when the registration is gone; what becomes of the sessions then is
// in the mark.
func (l *loop) tellRelease(ctx context.Context, k key, r *gateway.Release, keep time.Duration) {
	became, sessions := "is removed", "are closed now."
	if r.Expired {
		became = "had expired before it ended"
	}
	if keep > 0 {
		sessions = fmt.Sprintf("are kept until %s UTC, so that clients can read the error.", r.CloseAt.UTC().Format(time.TimeOnly))
	}
	text := fmt.Sprintf(gateway.Name+" has forgotten this engine: its registration %s, and the next connection starts a new engine. Its old sessions %s", became, sessions)
	l.log.Info("deregistered", "pod", k.NamespacedName, "uid", k.UID, "expired", r.Expired, "closeAt", r.CloseAt, "afterDeath", time.Since(r.Death.At))
	l.tell(ctx, k, corev1.EventTypeNormal, "EngineReleased", text)
}

// tellRefusal once. What was answered is for the operator, who reads the log; the
// Event is for whoever may read the namespace.
func (l *loop) tellRefusal(ctx context.Context, k key, d *death, refusal *gateway.Refusal) {
	if !l.refuse(d, refusal.Reason) {
		return
	}
	kept := keptBy(d.release)
	l.metrics.refused(refusal.Reason)
	l.log.Error("release refused", "pod", k.NamespacedName, "reason", refusal.Reason, "gateway", kept, "error", refusal.Err, "remedy", refusal.Remedy)
	l.tell(ctx, k, corev1.EventTypeWarning, string(refusal.Reason), fmt.Sprintf("%s %s. %s", gateway.Name, kept, refusal.Remedy))
}

// keptBy the gateway: what is true of a release that does not go on.
func keptBy(r *gateway.Release) string {
	switch {
	case r == nil || len(r.Found) == 0:
		return "may keep this dead engine"
	case r.Expired || r.Pending[0] == gateway.CloseSessions:
		return "keeps old sessions of this engine"
	}
	return "keeps this dead engine"
}

// tell by an Event on the driver, once for each reason.
func (l *loop) tell(ctx context.Context, k key, kind, reason, text string) {
	job.Events{Job: name, API: l.api, Log: l.log}.Tell(ctx, k, reason, kind, reason, text)
}
