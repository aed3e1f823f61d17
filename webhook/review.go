package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Reviews serves admission handlers over HTTP, each at its path ("/mutate").
//
// An envelope that is not an admission review gets an HTTP error. The API server treats
// that as a failed call, and never as a refusal. controller-runtime's own server would
// answer with allowed: false.
func Reviews(handlers map[string]admission.Handler, metrics *Metrics, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	limit := newLimiter()
	for path, handler := range handlers {
		mux.Handle(path, metrics.timed(path[1:], reviews{path[1:], handler, metrics, log, limit}))
	}
	mux.Handle("/", metrics.timed("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, errors.New("nothing is served here"))
	})))
	return mux
}

type reviews struct {
	path    string
	handler admission.Handler
	metrics *Metrics
	log     *slog.Logger
	limit   *limiter
}

func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	response, status, err := s.answer(w, r)
	if err != nil {
		refuse(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err = json.MarshalWrite(w, admissionv1.AdmissionReview{TypeMeta: reviewType, Response: response})
	if err = errors.Join(err, r.Context().Err()); err != nil {
		s.metrics.lost.Inc()
		s.log.Warn("the client did not wait for the answer", "path", s.path, "uid", response.UID, "error", err)
	}
}

// refuse answers with an HTTP error. A client that sends no admission reviews is not
// the API server, so its connection is closed.
func refuse(w http.ResponseWriter, status int, err error) {
	if status < http.StatusInternalServerError {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, err.Error(), status)
}

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

func (s reviews) answer(w http.ResponseWriter, r *http.Request) (response *admissionv1.AdmissionResponse, status int, err error) {
	held := slotsFor(r)
	defer held.release()
	body, status, err := s.limit.read(w, r, &held)
	if err != nil {
		return s.failed(body, status, err)
	}
	if n := elements(body); n > maxElements {
		return s.leaveAlone(body, n)
	}
	if err := held.acquire(r.Context(), s.limit.slotsToDecode(body)); err != nil {
		return s.failed(body, http.StatusServiceUnavailable, err)
	}
	req, err := readReview(body)
	if err != nil {
		return s.failed(body, http.StatusBadRequest, err)
	}
	answer := s.handler.Handle(r.Context(), *req)
	if err := answer.Complete(*req); err != nil {
		return s.failed(body, http.StatusInternalServerError, fmt.Errorf("encoding the patch: %w", err))
	}
	return &answer.AdmissionResponse, 0, nil
}

// failed logs a review that cannot be answered, with the name of the object if the
// review shows it.
func (s reviews) failed(body []byte, status int, err error) (*admissionv1.AdmissionResponse, int, error) {
	attributes := []any{"path", s.path}
	if req, err := identify(body); err == nil {
		attributes = logged(s.path, req)
	}
	s.log.Warn("not an admission review that can be answered", append(attributes, "status", status, "error", cut(err.Error()))...)
	return nil, status, err
}

// leaveAlone allows an object that would take too much memory to decode.
func (s reviews) leaveAlone(body []byte, elements int) (*admissionv1.AdmissionResponse, int, error) {
	req, err := identify(body)
	if err != nil {
		return s.failed(nil, http.StatusBadRequest, err)
	}
	s.metrics.count(s.path, req, verdict{outcome: TooLarge})
	s.log.Warn("admitted unchanged, because it is too large", append(logged(s.path, req), "elements", elements)...)
	return &admissionv1.AdmissionResponse{
		UID:      req.UID,
		Allowed:  true,
		Warnings: []string{fmt.Sprintf("spark-vitals left this object unchanged: it has some %d values, and at most %d are read", elements, maxElements)},
	}, 0, nil
}

func readReview(body []byte) (*admission.Request, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, unreadable("review", err)
	}
	if review.TypeMeta != reviewType {
		return nil, fmt.Errorf("the body is a %.40q of %.40q; only an AdmissionReview of admission.k8s.io/v1 is read", review.Kind, review.APIVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, errNoUID
	}
	return &admission.Request{AdmissionRequest: *review.Request}, nil
}

// identify decodes only what identifies the review's object, with little memory.
func identify(body []byte) (*admission.Request, error) {
	var review struct {
		Request struct {
			UID         types.UID                   `json:"uid"`
			Resource    metav1.GroupVersionResource `json:"resource"`
			SubResource string                      `json:"subResource"`
			Operation   admissionv1.Operation       `json:"operation"`
			Namespace   string                      `json:"namespace"`
			Name        string                      `json:"name"`
			DryRun      *bool                       `json:"dryRun"`
			Object      named                       `json:"object"`
		} `json:"request"`
	}
	if err := json.Unmarshal(body, &review, jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, unreadable("review", err)
	}
	r := review.Request
	if r.UID == "" {
		return nil, errNoUID
	}
	req := &admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: r.UID, Resource: r.Resource, SubResource: r.SubResource, Operation: r.Operation, Namespace: r.Namespace, Name: r.Name, DryRun: r.DryRun,
	}}
	if r.Name == "" {
		req.Name = r.Object.Metadata.GenerateName
	}
	return req, nil
}

// named decodes only metadata.generateName.
type named struct {
	Metadata struct {
		GenerateName string `json:"generateName"`
	} `json:"metadata"`
}

func generateName(object []byte) string {
	var n named
	_ = json.Unmarshal(object, &n, jsontext.AllowDuplicateNames(true)) // an object that cannot be read has no name
	return n.Metadata.GenerateName
}

// unreadable returns an error with the place of the fault in a JSON, without a value
// from the user.
func unreadable(what string, err error) error {
	if wrong := (*json.SemanticError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("decoding the %s: %q is not a %v", what, cut(string(wrong.JSONPointer)), wrong.GoType)
	}
	if wrong := (*jsontext.SyntacticError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("decoding the %s: no JSON at byte %d, after %q", what, wrong.ByteOffset, cut(string(wrong.JSONPointer)))
	}
	return fmt.Errorf("decoding the %s: %T", what, err)
}

var errNoUID = errors.New("the review has no request.uid")
