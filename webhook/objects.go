package webhook

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

func (h *Handler) mutatePod(req *admission.Request, namespace policy.Mode) (verdict, error) {
	if v, ok := optedOut(req.Object.Raw); ok {
		return v, nil
	}
	pod := &corev1.Pod{}
	if err := decode(req, pod); err != nil {
		return verdict{}, err
	}
	sparkPod, err := spark.PodOf(pod)
	if err != nil {
		return verdict{outcome: NotSpark, result: patches.Clean(pod)}, nil
	}
	choice := h.Policy.For(sparkPod, namespace)
	h.addRemedy(&choice, sparkPod, req.Namespace)
	result := patches.Apply(sparkPod, choice)
	if sparkPod.Role == spark.Driver && result.Remedied == policy.Enabled && !isDryRun(req) {
		h.Remedies.Gave(sparkPod, req.Namespace)
	}
	return verdict{outcome: outcomeOf(result), role: string(sparkPod.Role), result: result}, nil
}

// addRemedy adds what is known of a pod's remedy to what the policy chose.
func (h *Handler) addRemedy(to *policy.Choice, pod spark.Pod, namespace string) {
	switch {
	case to.Rule == nil || to.Rule.Remedy == nil, pod.Role == spark.Driver && to.Rule.Remedy.Carries() == "":
	case h.Remedies == nil:
		to.NoRemedy = "the webhook does not watch drivers (--watch-drivers)"
	case pod.Role == spark.Driver:
		to.Memory, to.NoRemedy = h.Remedies.MemoryOf(pod, namespace)
	default:
		if to.NoRemedy = h.Remedies.Unknown(); to.NoRemedy == "" {
			to.Plan = h.Remedies.Of(pod, namespace)
		}
	}
}

// optedOut answers for a pod that opts out itself, from its metadata alone. Decoding the
// rest takes longer than everything else, so such a pod costs least, and it is left alone
// even if its spec cannot be read.
func optedOut(object []byte) (v verdict, ok bool) {
	if !bytes.Contains(object, []byte(`"`+annotations.Inject+`"`)) {
		return verdict{}, false
	}
	var pod struct {
		Metadata struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	err := json.Unmarshal(object, &pod, jsontext.AllowDuplicateNames(true)) // the envelope's decoder has checked that
	meta := pod.Metadata
	role := spark.Role(meta.Labels[spark.RoleLabel])
	if err != nil || meta.Annotations[annotations.Inject] != string(policy.Disabled) || role != spark.Driver && role != spark.Executor {
		return verdict{}, false
	}
	result := patches.Clean(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: meta.Annotations}})
	return verdict{outcome: OptedOut, role: string(role), result: result}, true
}

func (h *Handler) mutateService(req *admission.Request, namespace policy.Mode) (verdict, error) {
	var service corev1.Service
	if err := decode(req, &service); err != nil {
		return verdict{}, err
	}
	if !patches.IsDriverService(&service) {
		return verdict{outcome: NotSpark}, nil
	}
	result := patches.ApplyToService(&service, h.Policy.ForService(&service, namespace))
	return verdict{outcome: outcomeOf(result), role: string(spark.Driver), result: result}, nil
}

// validatePod judges what the user wrote. It does not matter if the pod has been
// through /mutate: applying the rule again finds the same.
func (h *Handler) validatePod(req *admission.Request) (verdict, error) {
	pod := &corev1.Pod{}
	if err := decode(req, pod); err != nil {
		return verdict{}, err
	}
	sparkPod, err := spark.PodOf(pod)
	if err != nil {
		return verdict{outcome: NotSpark}, nil
	}
	result := patches.Apply(sparkPod, h.Policy.For(sparkPod, policy.Enabled))
	result.Operations = nil
	v := verdict{outcome: Unchanged, role: string(sparkPod.Role), result: result}
	if h.Deny && sparkPod.Role == spark.Driver && result.Mode == policy.Enabled {
		v.refusal = refusal(result.Warnings)
	}
	if v.refusal != "" {
		v.outcome = Denied
	}
	return v, nil
}

// refusal names what the user must fix, or returns "" if there is nothing.
func refusal(warnings []policy.Warning) string {
	mend := slices.DeleteFunc(slices.Clone(warnings), func(w policy.Warning) bool { return !w.IsUsersFault() })
	if len(mend) == 0 {
		return ""
	}
	return strings.Join(answerWarnings(mend), "; ") + " (" + annotations.Inject + ": disabled on the pod turns spark-vitals off for it)"
}

func outcomeOf(result patches.Result) Outcome {
	switch {
	case result.Mode == policy.Disabled:
		return OptedOut
	case result.Mode == policy.Audit:
		return Audited
	case len(result.Operations) > 0:
		return Patched
	}
	return Unchanged
}

// decode reads field names as the API server does: with regard to case, and it refuses
// a name that is there twice. Go's own decoder may read a field as "annotations" that a
// patch then does not find.
func decode(req *admission.Request, into any) error {
	if len(req.Object.Raw) == 0 {
		return errors.New("the review has no object")
	}
	if err := json.Unmarshal(req.Object.Raw, into, json.WithUnmarshalers(quantities)); err != nil {
		return unreadable("object of the review", err)
	}
	return nil
}

// maxQuantity is how many bytes a quantity may have; an int64 has 20.
const maxQuantity = 64

var errQuantity = errors.New("its exponent or its length is above any realistic quantity")

// quantities reads a quantity only if that is cheap, so that one pod cannot stop the
// webhook: apimachinery's parser needs a minute for "1e-100000000". The API server sends
// quantities in a shorter form; other clients need not.
var quantities = json.UnmarshalFromFunc(func(from *jsontext.Decoder, into *resource.Quantity) error {
	text, err := from.ReadValue()
	if err != nil {
		return err
	}
	exponent := bytes.LastIndexAny(text, "eE")
	if len(text) > maxQuantity || exponent >= 0 && len(text)-exponent > len(`e-99"`) {
		return errQuantity
	}
	return into.UnmarshalJSON(text)
})
