package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Reviews serves admission handlers over HTTP, each at its path ("/mutate").
//
// An envelope that is no admission review gets an HTTP error, which is a failed
// call to the API server and never a refusal; controller-runtime's own server
// would answer it with allowed: false.
func Reviews(handlers map[string]admission.Handler, metrics *Metrics, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	room := newRoom()
	for path, handler := range handlers {
		mux.Handle(path, metrics.timed(path[1:], reviews{path[1:], handler, metrics, log, room}))
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
	room    *room
}

func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	response, status, err := s.answer(w, r)
	if err != nil {
		s.log.Warn("not an admission review that can be answered", "path", r.URL.Path, "status", status, "error", err)
		refuse(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.MarshalWrite(w, admissionv1.AdmissionReview{TypeMeta: reviewType, Response: response}); err != nil {
		s.log.Warn("writing the answer", "path", r.URL.Path, "uid", response.UID, "error", err)
	}
}

// refuse answers with an HTTP error. Who sends no reviews is not the API server,
// and does not keep his connection.
func refuse(w http.ResponseWriter, status int, err error) {
	if status < http.StatusInternalServerError {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, err.Error(), status)
}

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

func (s reviews) answer(w http.ResponseWriter, r *http.Request) (response *admissionv1.AdmissionResponse, status int, err error) {
	places := places{until: time.Now().Add(maxWait), taken: make([]chan struct{}, 0, 2)}
	defer places.leave()
	body, status, err := s.room.read(w, r, &places)
	if err != nil {
		return nil, status, err
	}
	if n := elements(body); n > maxElements {
		return s.leaveAlone(body, n)
	}
	if err := places.take(r.Context(), s.room.toAnswer(body)); err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	req, err := readReview(body)
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	answer := s.handler.Handle(r.Context(), *req)
	if err := answer.Complete(*req); err != nil {
		return nil, http.StatusInternalServerError, fmt.Errorf("encoding the patch: %w", err)
	}
	return &answer.AdmissionResponse, 0, nil
}

// leaveAlone allows an object that would take too much memory to decode.
func (s reviews) leaveAlone(body []byte, elements int) (*admissionv1.AdmissionResponse, int, error) {
	req, err := identify(body)
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	s.metrics.count(s.path, req, verdict{outcome: TooLarge})
	s.log.Warn("admitted unchanged, because it is too large", append(logged(s.path, req), "elements", elements)...)
	return &admissionv1.AdmissionResponse{
		UID:      req.UID,
		Allowed:  true,
		Warnings: []string{fmt.Sprintf("spark-vitals left this object as it is: it has some %d values, and at most %d are read", elements, maxElements)},
	}, 0, nil
}

func readReview(body []byte) (*admission.Request, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("decoding the review: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, fmt.Errorf("the body is a %.40q of %.40q; only an AdmissionReview of admission.k8s.io/v1 is read", review.Kind, review.APIVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, errNoUID
	}
	return &admission.Request{AdmissionRequest: *review.Request}, nil
}

// identify reads of a review only what its object is called, in little memory.
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
		} `json:"request"`
	}
	if err := json.Unmarshal(body, &review, jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, fmt.Errorf("decoding the review: %w", err)
	}
	r := review.Request
	if r.UID == "" {
		return nil, errNoUID
	}
	return &admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: r.UID, Resource: r.Resource, SubResource: r.SubResource, Operation: r.Operation, Namespace: r.Namespace, Name: r.Name, DryRun: r.DryRun,
	}}, nil
}

var errNoUID = errors.New("the review has no request.uid")
