package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

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
	// room is taken by each review that is being answered; the others wait. So
	// memory is bounded, and a review that takes long delays the rest but little.
	room chan struct{}
}

const (
	maxReviews = 16              // that are answered at a time; one takes a millisecond
	maxWait    = 2 * time.Second // for room, below the API server's timeoutSeconds for us
)

func (s reviews) enter(ctx context.Context) (leave func(), status int, err error) {
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case s.room <- struct{}{}:
		return func() { <-s.room }, 0, nil
	case <-wait.C:
		err = fmt.Errorf("no room within %s: %d reviews are being answered", maxWait, maxReviews)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return func() {}, http.StatusServiceUnavailable, err
}

func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, status, err := readBody(r)
	if err == nil {
		var leave func()
		leave, status, err = s.enter(r.Context())
		defer leave()
	}
	var req *admission.Request
	if err == nil {
		req, status, err = readReview(body)
	}
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

func readBody(r *http.Request) (body []byte, status int, err error) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed, errors.New("only POST is served here")
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Type is %.40q; only application/json is read", t)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Encoding is %.40q; none is read", e)
	}
	body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxReviewBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the review is larger than %d bytes", maxReviewBytes)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the review: %w", err)
	}
	return body, 0, nil
}

func readReview(body []byte) (req *admission.Request, status int, err error) {
	var review admissionv1.AdmissionReview
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("decoding the review: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, http.StatusBadRequest, fmt.Errorf("the body is a %.40q of %.40q; only an AdmissionReview of admission.k8s.io/v1 is read", review.Kind, review.APIVersion)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, http.StatusBadRequest, errors.New("the review has no request.uid")
	}
	return &admission.Request{AdmissionRequest: *review.Request}, 0, nil
}
