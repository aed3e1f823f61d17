package releaser

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/gateway"
)

func (l *loop) tellRelease(ctx context.Context, r *gateway.Release) {
	kind, text := corev1.EventTypeNormal, fmt.Sprintf("%s has forgotten this engine: its registration is removed and %d of its sessions are closed. The next connection starts a new one.", l.gateway.Name(), r.Sessions)
	if len(r.GivenUp) > 0 {
		text += fmt.Sprintf(" %d servers cannot be reached, and were not asked.", len(r.GivenUp))
	}
	if len(r.Collateral) > 0 {
		kind = corev1.EventTypeWarning
		text += fmt.Sprintf(" Engines that were registered in the same moment were removed too: %v.", r.Collateral)
		l.log.Error("healthy engines were deregistered too", "pod", r.Driver, "engines", r.Collateral)
	}
	l.tell(ctx, key{r.Driver, r.UID}, kind, "EngineReleased", text)
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

// Longest parts of an Event, in bytes, as the API server allows them.
const (
	maxEventName    = 253
	maxEventMessage = 1024
)

// tell by an Event on the driver. Its name follows from what is told, so telling
// it again makes no second one. That it cannot be told stops nothing.
func (l *loop) tell(ctx context.Context, k key, kind, reason, text string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s", k.UID, reason))
	suffix := fmt.Sprintf(".%x", sum[:8])
	now := metav1.NewTime(time.Now())
	err := l.api.Create(ctx, &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name[:min(len(k.Name), maxEventName-len(suffix))] + suffix},
		InvolvedObject:      corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: k.Name, UID: k.UID},
		Type:                kind,
		Reason:              reason,
		Message:             strings.ToValidUTF8(text[:min(len(text), maxEventMessage)], ""),
		Source:              corev1.EventSource{Component: name},
		ReportingController: "spark-vitals.io/releaser",
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		l.log.Warn("an Event could not be written", "pod", k.NamespacedName, "reason", reason, "error", err)
	}
}
