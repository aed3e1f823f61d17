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

// room limits the memory of all reviews together. A review takes a place before it
// becomes more than a small body, and waits if there is none. Ordinary reviews have
// their own places, so none of them waits for an unusual pod.
type room struct {
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
	// maxWait limits the wait for all places, even if the caller waits longer.
	maxWait = 2 * time.Second
	// callersWait is used if a caller does not say how long it waits: the chart's
	// timeoutSeconds.
	callersWait = time.Second
	// largeTime limits how long a large body may take. Others wait for its place, so it
	// is less than callersWait.
	largeTime = 400 * time.Millisecond
)

func newRoom() *room {
	return &room{make(chan struct{}, maxLarge), make(chan struct{}, maxOrdinary), make(chan struct{}, 1)}
}

// elements returns at most how many values a JSON has, not counting the first of each
// list and object. Its size in memory grows with them, some 100 to 1,000 bytes each.
func elements(object []byte) int { return bytes.Count(object, []byte(",")) }

// toAnswer returns the kind of place that a review needs before it is decoded.
func (m *room) toAnswer(body []byte) chan struct{} {
	if len(body) <= smallBytes && elements(body) <= fewElements {
		return m.ordinary
	}
	return m.heavy
}

// places are those that one review has taken.
type places struct {
	wait  time.Duration // for all places together
	until time.Time     // the end of that wait
	taken []chan struct{}
}

// placesFor returns the places of a request. It waits for them for half of the time
// that the API server gives it ("?timeout=1s"), so the other half is left for the
// answer.
func placesFor(r *http.Request) places {
	timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || timeout <= 0 {
		timeout = callersWait
	}
	wait := min(timeout/2, maxWait)
	return places{wait: wait, until: time.Now().Add(wait), taken: make([]chan struct{}, 0, 2)}
}

func (p *places) take(ctx context.Context, place chan struct{}) error {
	select {
	case place <- struct{}{}:
	default:
		ctx, cancel := context.WithDeadline(ctx, p.until)
		defer cancel()
		select {
		case place <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("no free memory within %s: %w", p.wait, ctx.Err())
		}
	}
	p.taken = append(p.taken, place)
	return nil
}

func (p *places) leave() {
	for _, place := range p.taken {
		<-place
	}
}

// read reads the body of a request.
func (m *room) read(w http.ResponseWriter, r *http.Request, places *places) (body []byte, status int, err error) {
	if status, err := checkHeader(r); err != nil {
		return nil, status, err
	}
	large := r.ContentLength > smallBytes
	if large {
		if err := places.take(r.Context(), m.large); err != nil {
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
