package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/semaphore"
)

// room bounds the memory of all reviews together. A small body is read as it
// comes: there are no more of them than connections. A large one takes one of a
// few places first. What was read is decoded when there is room for what it may
// become, the rest waiting meanwhile; a real review takes less than a
// millisecond.
type room struct{ large, elements *semaphore.Weighted }

const (
	// maxReviewBytes: an object of at most 3 MiB, the old one, and the rest of
	// the review (controller-runtime allows the same, and says why).
	maxReviewBytes = 7 << 20
	smallBytes     = 32 << 10 // three times a real review
	maxLarge       = 4        // that are in memory at a time
	// maxElements of all the reviews that are being answered: an empty map or a
	// null of a few bytes may become a container of a kilobyte. A pod of 200
	// containers with 50 variables each has 40,000, most of them in managedFields.
	maxElements = 100_000
	maxReviews  = 16              // that are answered at a time, however small
	maxWait     = 2 * time.Second // for each place, below the API server's timeoutSeconds for us
)

func newRoom() *room {
	return &room{large: semaphore.NewWeighted(maxLarge), elements: semaphore.NewWeighted(maxElements)}
}

// places are what one review has taken.
type places []func()

func (p *places) take(ctx context.Context, of *semaphore.Weighted, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if err := of.Acquire(ctx, n); err != nil {
		return fmt.Errorf("no room within %s: %w", maxWait, err)
	}
	*p = append(*p, func() { of.Release(n) })
	return nil
}

func (p *places) leave() {
	for _, leave := range *p {
		leave()
	}
}

// read the body of a request, and take the places that answering it needs.
func (m *room) read(r *http.Request, taken *places) (body []byte, status int, err error) {
	if status, err := checkHeader(r); err != nil {
		return nil, status, err
	}
	limited := http.MaxBytesReader(nil, r.Body, maxReviewBytes)
	var whole bytes.Buffer
	whole.Grow(int(min(max(r.ContentLength, 0), smallBytes)) + bytes.MinRead)
	n, err := whole.ReadFrom(io.LimitReader(limited, smallBytes))
	if err == nil && n == smallBytes {
		if err := taken.take(r.Context(), m.large, 1); err != nil {
			return nil, http.StatusServiceUnavailable, err
		}
		_, err = whole.ReadFrom(limited)
	}
	if err != nil {
		return nil, readStatus(err), fmt.Errorf("reading the review: %w", err)
	}
	body = whole.Bytes()
	if err := taken.take(r.Context(), m.elements, min(max(elements(body), maxElements/maxReviews), maxElements)); err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	return body, 0, nil
}

// elements is how many structs a JSON may become, at most.
func elements(object []byte) int64 {
	return int64(bytes.Count(object, []byte("{")) + bytes.Count(object, []byte("null")))
}

func checkHeader(r *http.Request) (status int, err error) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, errors.New("only POST is served here")
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		return http.StatusUnsupportedMediaType, fmt.Errorf("Content-Type is %.40q; only application/json is read", t)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return http.StatusUnsupportedMediaType, fmt.Errorf("Content-Encoding is %.40q; none is read", e)
	}
	return 0, nil
}

func readStatus(err error) int {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}
