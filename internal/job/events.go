package job

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Limits of the API server for the parts of an Event, in bytes.
const (
	maxEventName    = 253
	maxEventMessage = 1024
)

// Events creates Events about pods.
type Events struct {
	Job string // the job's name
	API client.Client
	Log *slog.Logger
}

// Create creates an Event about something that happened once to a pod. The Event's name
// follows from that, so a second call creates no second Event. A failure is only logged.
func (e Events) Create(ctx context.Context, about Key, once, kind, reason, text string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s", about.UID, once))
	suffix := fmt.Sprintf(".%x", sum[:8])
	now := metav1.NewTime(time.Now())
	err := e.API.Create(ctx, &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: about.Namespace, Name: about.Name[:min(len(about.Name), maxEventName-len(suffix))] + suffix},
		InvolvedObject:      corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: about.Namespace, Name: about.Name, UID: about.UID},
		Type:                kind,
		Reason:              reason,
		Message:             strings.ToValidUTF8(text[:min(len(text), maxEventMessage)], ""),
		Source:              corev1.EventSource{Component: e.Job},
		ReportingController: "spark-vitals.io/" + strings.TrimPrefix(e.Job, "spark-vitals-"),
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	})
	if client.IgnoreAlreadyExists(err) != nil {
		e.Log.Warn("an Event could not be written", "pod", about.NamespacedName, "reason", reason, "error", err)
	}
}
