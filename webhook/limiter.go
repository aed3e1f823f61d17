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
)

// limiter limits the memory of all reviews together, so that no client can make the
// webhook run out of it. A review takes a slot before it becomes more than a small body,
// and waits if none is free. Ordinary reviews have their own slots, so none of them waits
// for an unusual pod.
type limiter struct {
	large    chan struct{} // bodies above smallBytes, from before they are read
	ordinary chan struct{} // small bodies of few elements, while they are answered
	heavy    chan struct{} // all others
}

const (
	// maxReviewBytes allows an object of at most 3 MiB, the old one, and the rest of the
	// review (controller-runtime allows the same, and says why).
	maxReviewBytes = 7 << 20
	smallBytes     = 32 << 10 // three times a real review
	fewElements    = 2000     // five times a real review
	// maxElements is the limit for decoding. A pod of 200 containers with 50 variables
	// each has 50,000, most of them in managedFields.
	maxElements = 60_000
	maxLarge    = 4
	maxOrdinary = 16
	// maxWait limits the wait for all slots, even if the caller waits longer.
	maxWait = 2 * time.Second
	// callersWait is used if a caller does not say how long it waits: the chart's
	// timeoutSeconds.
	callersWait = time.Second
	// largeTime limits how long a large body may take. Others wait for its slot, so it
	// is less than callersWait.
	largeTime = 400 * time.Millisecond
)

func newLimiter() *limiter {
	return &limiter{make(chan struct{}, maxLarge), make(chan struct{}, maxOrdinary), make(chan struct{}, 1)}
}

// elements returns an upper bound of how many values a JSON has, without the first of
// each list and object. Its size in memory grows with them, some 100 to 1,000 bytes
// each.
func elements(object []byte) int { return bytes.Count(object, []byte(",")) }

// slotsToDecode returns the slots from which a review needs one to be decoded.
func (l *limiter) slotsToDecode(body []byte) chan struct{} {
	if len(body) <= smallBytes && elements(body) <= fewElements {
		return l.ordinary
	}
	return l.heavy
}

// slots are the slots that one review holds.
type slots struct {
	wait  time.Duration // for all slots together
	until time.Time     // the end of that wait
	held  []chan struct{}
}

// slotsFor returns the slots of a request, none yet. It waits for them for half of the time
// that the API server gives it ("?timeout=1s"), so the other half is left for the
// answer.
func slotsFor(r *http.Request) slots {
	timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || timeout <= 0 {
		timeout = callersWait
	}
	wait := min(timeout/2, maxWait)
	return slots{wait: wait, until: time.Now().Add(wait), held: make([]chan struct{}, 0, 2)}
}

func (s *slots) acquire(ctx context.Context, of chan struct{}) error {
	select {
	case of <- struct{}{}:
	default:
		ctx, cancel := context.WithDeadline(ctx, s.until)
		defer cancel()
		select {
		case of <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("no free memory within %s: %w", s.wait, ctx.Err())
		}
	}
	s.held = append(s.held, of)
	return nil
}

func (s *slots) release() {
	for _, of := range s.held {
		<-of
	}
}

// read reads the body of a request.
func (l *limiter) read(w http.ResponseWriter, r *http.Request, held *slots) (body []byte, status int, err error) {
	if status, err := checkHeader(r); err != nil {
		return nil, status, err
	}
	large := r.ContentLength > smallBytes
	if large {
		if err := held.acquire(r.Context(), l.large); err != nil {
			return nil, http.StatusServiceUnavailable, err
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(largeTime)) // net/http ends it with the body
	}
	body = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, readStatus(err), fmt.Errorf("reading the review: %w", err)
	}
	return body, 0, nil
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
	if r.ContentLength < 0 { // the API server always has one
		return http.StatusLengthRequired, errors.New("there is no Content-Length")
	}
	if r.ContentLength > maxReviewBytes {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("the body has %d bytes; at most %d are read", r.ContentLength, maxReviewBytes)
	}
	return 0, nil
}

func readStatus(err error) int {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}
