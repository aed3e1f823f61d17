package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"
)

// maxReviewBytes: an object of at most 3 MiB, the old one, and the rest of the
// review (controller-runtime allows the same, and says why).
const maxReviewBytes = 7 << 20

// reviews serves admission reviews over HTTP. An envelope that is not one gets
// an HTTP error, which is a failed call to the API server and never a refusal;
// controller-runtime's own server would answer it with allowed: false.
type reviews struct {
	handler admission.Handler
	log     *slog.Logger
}

func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, status, err := readReview(r)
	if err != nil {
		s.log.Warn("not an admission review", "path", r.URL.Path, "status", status, "error", err)
		http.Error(w, err.Error(), status)
		return
	}
	response := s.handler.Handle(r.Context(), *req)
	if err := response.Complete(*req); err != nil {
		s.log.Error("encoding the patch", "uid", req.UID, "error", err)
		http.Error(w, "encoding the patch", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: reviewType, Response: &response.AdmissionResponse})
	if err != nil {
		s.log.Warn("writing the answer", "uid", req.UID, "error", err)
	}
}

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

func readReview(r *http.Request) (req *admission.Request, status int, err error) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed, errors.New("only POST is served here")
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Type is %q; only application/json is read", t)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Encoding is %q; none is read", e)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxReviewBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the review is larger than %d bytes", maxReviewBytes)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the review: %w", err)
	}
	var review admissionv1.AdmissionReview
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("decoding the review: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, http.StatusBadRequest, fmt.Errorf("the body is a %q of %q; only an AdmissionReview of admission.k8s.io/v1 is read", review.Kind, review.APIVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, http.StatusBadRequest, errors.New("the review has no request.uid")
	}
	return &admission.Request{AdmissionRequest: *review.Request}, 0, nil
}
