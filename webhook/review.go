package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		mux.Handle(path, metrics.timed(path[1:], reviews{handler, log, room}))
	}
	mux.Handle("/", metrics.timed("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, errors.New("nothing is served here"))
	})))
	return mux
}

type reviews struct {
	handler admission.Handler
	log     *slog.Logger
	room    *room
}

func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	response, status, err := s.answer(r)
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

func (s reviews) answer(r *http.Request) (response *admissionv1.AdmissionResponse, status int, err error) {
	var places places
	defer places.leave()
	body, status, err := s.room.read(r, &places)
	if err != nil {
		return nil, status, err
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

func readReview(body []byte) (*admission.Request, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("decoding the review: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, fmt.Errorf("the body is a %.40q of %.40q; only an AdmissionReview of admission.k8s.io/v1 is read", review.Kind, review.APIVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, errors.New("the review has no request.uid")
	}
	return &admission.Request{AdmissionRequest: *review.Request}, nil
}
