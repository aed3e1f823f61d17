package failing

import (
	"regexp"
	"sync/atomic"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/spark-vitals/spark-vitals/check"
)

// The check that "helm test" runs says how long the API server waits, and by how much
// each Spark pod is delayed while the webhook cannot be reached.
func TestDelayIsSaid(t *testing.T) {
	second := func(w *admissionregistrationv1.MutatingWebhook) { w.TimeoutSeconds = new(int32(1)) }
	var calls atomic.Int32
	unreached := register(t, "unreached", blackHole(t, &calls), second)
	_, err := check.Injection(t.Context(), client, unreached.name, check.Engine{Webhook: unreached.name})
	if err == nil || !regexp.MustCompile(`each Spark pod and driver Service is created (1|0\.9|1\.\d)s later`).MatchString(err.Error()) {
		t.Errorf("not reached: %v", err)
	}
	reached := register(t, "reached", start(t).URL)
	reached.seen(t)
	injected, err := check.Injection(t.Context(), client, reached.name, check.Engine{Webhook: reached.name})
	if err != nil || injected.Took <= 0 || injected.Without <= 0 {
		t.Errorf("reached: %s, %v", injected, err)
	}
	t.Log(injected)
}
