package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Handler answers admission requests by one policy.
type Handler struct {
	Policy  *policy.Policy
	Metrics *Metrics
	Log     *slog.Logger
	// Deny lets /validate refuse a driver with settings that cannot be read, or probes
	// that are certain to harm it. An executor is never refused: its driver would count
	// it as failed and ask for another forever.
	Deny bool
	// Remedies are the plans of applications; nil if the webhook does not watch drivers.
	Remedies Remedies
}

// Remedies are what pods are to get because earlier ones died of memory.
type Remedies interface {
	// Unknown returns why no plan is known now, or "".
	Unknown() string
	// Of returns the plan for an executor that is created in a namespace, or nil.
	Of(executor spark.Pod, namespace string) *annotations.RemedyPlan
	// MemoryOf returns the memory that a driver is to get when it is created in a namespace,
	// or nil; and why it gets none although an earlier run of its job needed it, or "".
	MemoryOf(driver spark.Pod, namespace string) (m *annotations.RemedyMemory, why string)
	// Gave notes that a driver got more memory.
	Gave(driver spark.Pod, namespace string)
}

// verdict is the result of one request.
type verdict struct {
	outcome Outcome
	role    string
	result  patches.Result
	refusal string // why the pod is refused; "" if it is not
}

// Outcome is the result of an admission request, as a metric's label.
type Outcome string

// The outcomes.
const (
	Patched   Outcome = "patched"
	Unchanged Outcome = "unchanged"
	Audited   Outcome = "audited"
	OptedOut  Outcome = "disabled"  // by the pod's own annotation
	NotSpark  Outcome = "not_spark" // has the label, but nothing else of Spark
	Denied    Outcome = "denied"    // only with Deny
	Failed    Outcome = "error"     // an error in spark-vitals; admitted unchanged
	Panicked  Outcome = "panic"     // a panic in spark-vitals; admitted unchanged
	TooLarge  Outcome = "too_large" // to be decoded; admitted unchanged
	Ignored   Outcome = "ignored"   // not a creation of a pod or a Service
)

// Mutate answers /mutate with policy.Enabled and /audit with policy.Audit. That is the
// mode of the namespaces for which the path is registered.
func (h *Handler) Mutate(namespace policy.Mode) admission.Handler {
	path := "mutate"
	if namespace == policy.Audit {
		path = "audit"
	}
	return h.answering(path, func(req *admission.Request) (verdict, error) {
		switch kindOf(req) {
		case pods:
			return h.mutatePod(req, namespace)
		case services:
			return h.mutateService(req, namespace)
		default:
			return verdict{outcome: Ignored}, nil
		}
	})
}

// Validate answers /validate: it returns warnings, and with Deny refuses drivers.
func (h *Handler) Validate() admission.Handler {
	return h.answering("validate", func(req *admission.Request) (verdict, error) {
		if kindOf(req) != pods {
			return verdict{outcome: Ignored}, nil
		}
		return h.validatePod(req)
	})
}

type kind int

const (
	other kind = iota
	pods
	services
)

func kindOf(req *admission.Request) kind {
	if req.Operation != admissionv1.Create || req.SubResource != "" || req.Resource.Group != "" {
		return other
	}
	switch req.Resource.Resource {
	case "pods":
		return pods
	case "services":
		return services
	}
	return other
}

// answering turns a verdict into an answer, and any error or panic into "allowed".
func (h *Handler) answering(path string, judge func(*admission.Request) (verdict, error)) admission.Handler {
	return admission.HandlerFunc(func(_ context.Context, req admission.Request) (response admission.Response) {
		defer func() {
			if cause := recover(); cause != nil {
				response = h.fail(path, &req, Panicked, fmt.Errorf("panic: %v", cause), "stack", string(debug.Stack()))
			}
		}()
		v, err := judge(&req)
		if err != nil {
			return h.fail(path, &req, Failed, err)
		}
		h.report(path, &req, v)
		if v.refusal != "" {
			return admission.Denied(v.refusal)
		}
		return admission.Response{
			Patches: v.result.Operations,
			AdmissionResponse: admissionv1.AdmissionResponse{
				Allowed:  true,
				Warnings: answerWarnings(v.result.Warnings),
			},
		}
	})
}

func (h *Handler) fail(path string, req *admission.Request, outcome Outcome, err error, more ...any) admission.Response {
	h.Metrics.count(path, req, verdict{outcome: outcome})
	h.Log.Error("admitted unchanged, because of a failure of spark-vitals", append(logged(path, req), append(more, "error", cut(err.Error()))...)...)
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Allowed:  true,
		Warnings: []string{"spark-vitals failed and left this object unchanged; its log says why"},
	}}
}

func (h *Handler) report(path string, req *admission.Request, v verdict) {
	h.Metrics.count(path, req, v)
	attributes := append(logged(path, req), "outcome", v.outcome, "role", v.role, "rule", v.result.Rule)
	for _, w := range v.result.Warnings[:min(len(v.result.Warnings), maxAnswerWarnings)] {
		attributes = append(attributes, string(w.Kind), w.Field)
	}
	h.Log.Info("reviewed", attributes...)
}

// logged returns the log attributes that identify a request. Of the object, only names
// of fields are logged, because values may be secrets.
func logged(path string, req *admission.Request) []any {
	name := req.Name
	if name == "" {
		name = generateName(req.Object.Raw)
	}
	return []any{"path", path, "resource", cut(req.Resource.Resource), "namespace", cut(req.Namespace), "name", cut(name), "uid", cut(string(req.UID)), "dryRun", isDryRun(req)}
}

func isDryRun(req *admission.Request) bool { return req.DryRun != nil && *req.DryRun }

// cut shortens what is longer than any name.
func cut(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "?") + "..."
}

const maxAnswerWarnings = 8 // the API server cuts off after 4 KiB

func answerWarnings(warnings []policy.Warning) []string {
	var texts []string
	for i, w := range warnings {
		if i == maxAnswerWarnings {
			return append(texts, fmt.Sprintf("spark-vitals: and %d more", len(warnings)-i))
		}
		texts = append(texts, "spark-vitals: "+w.String())
	}
	return texts
}
