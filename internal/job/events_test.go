package job

import (
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// Whatever the name and the text, the Event is one that the API server takes, and
// there is one for each thing that happened.
func TestTell(t *testing.T) {
	api := fake.NewClientBuilder().Build()
	events := Events{Job: "spark-vitals-job", API: api, Log: slog.New(slog.DiscardHandler)}
	about := Key{types.NamespacedName{Namespace: "spark", Name: strings.Repeat("a", maxEventName)}, "u-1"}
	for _, once := range []string{"Slow/1", "Slow/1", "Slow/2"} {
		events.Create(t.Context(), about, once, corev1.EventTypeNormal, "Slow", "x"+strings.Repeat("é", maxEventMessage))
	}
	var list corev1.EventList
	if err := api.List(t.Context(), &list); err != nil || len(list.Items) != 2 {
		t.Fatalf("%d Events, %v", len(list.Items), err)
	}
	for _, e := range list.Items {
		if len(e.Name) > maxEventName || len(e.Message) > maxEventMessage || !utf8.ValidString(e.Message) || e.InvolvedObject.UID != "u-1" ||
			e.Source.Component != "spark-vitals-job" || e.ReportingController != "spark-vitals.io/job" {
			t.Errorf("%+v", e)
		}
	}
}
