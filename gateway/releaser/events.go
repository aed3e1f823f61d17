package releaser

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
)

// reportRelease writes an Event when the registration is gone. The mark later says what
// happened to the sessions.
func (l *loop) reportRelease(ctx context.Context, k key, r *gateway.Release) {
	became, sessions := "is removed", "are closed now."
	if r.Expired {
		became = "had expired before it ended"
	}
	if l.keep > 0 {
		sessions = fmt.Sprintf("are kept until %s UTC, so that clients can read the error.", r.CloseAt.UTC().Format(time.TimeOnly))
	}
	text := fmt.Sprintf(gateway.Name+" has forgotten this engine: its registration %s, and the next connection starts a new engine. Its old sessions %s", became, sessions)
	l.log.Info("deregistered", "pod", k.NamespacedName, "uid", k.UID, "expired", r.Expired, "closeAt", r.CloseAt, "afterDeath", time.Since(r.Death.At))
	l.emitEvent(ctx, k, corev1.EventTypeNormal, "EngineReleased", text)
}

// reportRefusal reports a refusal once. The log has the answer, for the operator. The
// Event is for anyone who may read the namespace, so it does not.
func (l *loop) reportRefusal(ctx context.Context, k key, d *death, refusal *gateway.Refusal) {
	if !l.refuse(d, refusal.Reason) {
		return
	}
	kept := keptBy(d.release)
	l.metrics.refusals.WithLabelValues(string(refusal.Reason)).Inc()
	l.log.Error("release refused", "pod", k.NamespacedName, "reason", refusal.Reason, "gateway", kept, "error", refusal.Err, "remedy", refusal.Remedy)
	l.emitEvent(ctx, k, corev1.EventTypeWarning, string(refusal.Reason), fmt.Sprintf("%s %s. %s", gateway.Name, kept, refusal.Remedy))
}

// keptBy returns what an unfinished release leaves at the gateway.
func keptBy(r *gateway.Release) string {
	switch {
	case r == nil || len(r.Found) == 0:
		return "may keep this dead engine"
	case r.Expired || r.Pending[0] == gateway.CloseSessions:
		return "keeps old sessions of this engine"
	}
	return "keeps this dead engine"
}

// emitEvent writes an Event on the driver, one for each reason.
func (l *loop) emitEvent(ctx context.Context, k key, kind, reason, text string) {
	job.Events{Job: name, API: l.api, Log: l.log}.Create(ctx, k, reason, kind, reason, text)
}
