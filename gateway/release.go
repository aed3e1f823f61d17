package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Release is an unfinished release: what is known, and what must still be done. It is
// written down as JSON before anything is removed, because what is removed was the
// proof.
type Release struct {
	Driver types.NamespacedName `json:"driver"`
	UID    types.UID            `json:"uid"`
	Engine Engine               `json:"engine"`
	Death  Death                `json:"death"`
	// WhileRunning are the registrations that had its keys and address while it ran.
	WhileRunning []Registration `json:"lived,omitempty"`
	// Found are the registrations that prove it. Empty until they are found.
	Found []Registration `json:"found,omitempty"`
	// Expired is true if no registration was left after the death. Those from while it
	// ran are then the proof.
	Expired bool `json:"expired,omitempty"`
	// Pending are the steps that must still be done, the next one first.
	Pending []Step `json:"pending"`
	// CloseAt is when the sessions are due. Until then their clients can read the error.
	CloseAt time.Time `json:"closeAt,omitzero"`
	// Sessions is how many were closed so far.
	Sessions int `json:"sessions,omitempty"`
	// Finished are the servers without a session of the engine, or GivenUp.
	Finished []string `json:"finished,omitempty"`
	GivenUp  []string `json:"givenUp,omitempty"`

	unreachable map[string]time.Time // since when, by server
}

// Step is a step of a release.
type Step string

// The steps, in order. If sessions were closed first, Kyuubi would send their users to
// the dead engine again.
const (
	Prove         Step = "prove"
	Deregister    Step = "deregister"
	CloseSessions Step = "close-sessions"
)

// Steps are all steps, in order. A new release has all of them to do.
var Steps = []Step{Prove, Deregister, CloseSessions}

// ErrNotRegistered means that no registration has the engine's keys and address. So
// there is nothing to remove, and nothing proves which sessions to close.
var ErrNotRegistered = errors.New("the engine is not registered")

// ErrForeign means that the registration that was found does not belong to the engine
// under the current configuration. It must be proven again.
var ErrForeign = errors.New("the registration does not belong to the engine; the configuration may have changed")

// Bounds on the registrations of one engine. It registers once, under a name of some
// 600 bytes.
const (
	maxFound      = 16
	maxFoundBytes = 4 << 10
)

// Bounded reports whether these can be the registrations of one engine. Otherwise
// someone may have written them to fill the memory.
func Bounded(found []Registration) bool {
	size := 0
	for _, r := range found {
		size += len(r)
	}
	return len(found) <= maxFound && size <= maxFoundBytes
}

// Next does the next step; there must be one. After an error the step must still be
// done, and what it achieved is counted.
func (r *Release) Next(ctx context.Context, g Gateway) (err error) {
	step := r.Pending[0]
	switch step {
	case Prove:
		r.Found, err = g.Registrations(ctx, r.Engine)
		switch {
		case err != nil:
			r.Found = nil
		case len(r.Found) == 0 && len(r.WhileRunning) > 0:
			r.Found, r.WhileRunning, r.Expired = r.WhileRunning, nil, true
		case len(r.Found) == 0:
			err = ErrNotRegistered
		case !Bounded(r.Found):
			err = &Refusal{Reason: NotProven, Err: fmt.Errorf("%d registrations carry the driver's keys", len(r.Found)), Remedy: "An engine registers only once, so some of these are forged. They must expire."}
			r.Found = nil
		default:
			r.WhileRunning = nil // there is better proof
		}
	case Deregister:
		if err = g.Deregister(ctx, r); errors.Is(err, ErrForeign) {
			r.Found, r.WhileRunning, r.Expired, r.Pending = nil, nil, false, slices.Clone(Steps)
		}
	case CloseSessions:
		err = r.closeSessions(ctx, g)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	r.Pending = r.Pending[1:]
	return nil
}

// maxUnreachable is how long a server may be unreachable. A server that is gone has no
// sessions any more.
const maxUnreachable = 5 * time.Minute

// closeSessions closes sessions on the servers that are not finished.
func (r *Release) closeSessions(ctx context.Context, g Gateway) error {
	servers, err := g.CloseSessions(ctx, r)
	errs := []error{err}
	since := map[string]time.Time{}
	for _, s := range servers {
		r.Sessions += s.Sessions
		if s.Unreachable {
			since[s.Server] = time.Now()
			if first, known := r.unreachable[s.Server]; known {
				since[s.Server] = first
			}
		}
		switch {
		case s.Err == nil:
			r.Finished = append(r.Finished, s.Server)
		case s.Unreachable && time.Since(since[s.Server]) >= maxUnreachable:
			r.Finished, r.GivenUp = append(r.Finished, s.Server), append(r.GivenUp, s.Server)
		default:
			errs = append(errs, s.Err)
		}
	}
	r.unreachable = since
	return errors.Join(errs...)
}
