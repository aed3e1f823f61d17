package releaser

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/elected"
)

func (l *loop) tellRelease(ctx context.Context, r *gateway.Release) {
	text := fmt.Sprintf("%s has forgotten this engine: its registration is removed and %d of its sessions are closed. The next connection starts a new one.", l.gateway.Name(), r.Sessions)
	if len(r.GivenUp) > 0 {
		text += fmt.Sprintf(" %d servers cannot be reached, and were not asked.", len(r.GivenUp))
	}
	l.tell(ctx, key{NamespacedName: r.Driver, UID: r.UID}, corev1.EventTypeNormal, "EngineReleased", text)
}

// tellRefusal once. What was answered is for the operator, who reads the log; the
// Event is for whoever may read the namespace.
func (l *loop) tellRefusal(ctx context.Context, k key, d *death, refusal *gateway.Refusal) {
	if !l.refuse(d, refusal.Reason) {
		return
	}
	l.metrics.refused(refusal.Reason)
	l.log.Error("release refused", "pod", k.NamespacedName, "reason", refusal.Reason, "error", refusal.Err, "remedy", refusal.Remedy)
	l.tell(ctx, k, corev1.EventTypeWarning, string(refusal.Reason), fmt.Sprintf("%s keeps this dead engine. %s", l.gateway.Name(), refusal.Remedy))
}

// tell by an Event on the driver, once for each reason.
func (l *loop) tell(ctx context.Context, k key, kind, reason, text string) {
	elected.Teller{Job: name, API: l.api, Log: l.log}.Tell(ctx, k, reason, kind, reason, text)
}
