package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Release is a release under way: what is known and what is still to be done. It
// is written down as JSON before anything is removed, because what is removed
// was the proof.
type Release struct {
	Driver types.NamespacedName `json:"driver"`
	UID    types.UID            `json:"uid"`
	Engine Engine               `json:"engine"`
	Death  Death                `json:"death"`
	// Lived are the registrations that carried its keys and its address while it
	// ran.
	Lived []Registration `json:"lived,omitempty"`
	// Found are the registrations that prove it; none until they are found.
	Found []Registration `json:"found,omitempty"`
	// Expired: none was there any more after the death, and those of its life are
	// the proof.
	Expired bool `json:"expired,omitempty"`
	// Pending steps, the next first.
	Pending []Step `json:"pending"`
	// CloseAt is when the sessions are due: until then their clients may read what
	// became of them.
	CloseAt time.Time `json:"closeAt,omitzero"`
	// Sessions closed so far.
	Sessions int `json:"sessions,omitempty"`
	// Finished servers have no session of the engine any more, or were GivenUp.
	Finished []string `json:"finished,omitempty"`
	GivenUp  []string `json:"givenUp,omitempty"`

	unreachable map[string]time.Time // servers, and since when
}

// Step of a release.
type Step string

// The steps, in their order: were sessions closed first, their users would be
// sent to the dead engine again.
const (
	Prove         Step = "prove"
	Deregister    Step = "deregister"
	CloseSessions Step = "close-sessions"
)

// Steps of a release that has only begun.
var Steps = []Step{Prove, Deregister, CloseSessions}

// ErrNotRegistered says that no registration carries the engine's keys and address, so
// there is nothing to remove and no proof to close sessions by.
var ErrNotRegistered = errors.New("the engine is not registered")

// ErrForeign says that what was found is no registration of the engine by the
// gateway's configuration of now: it has to be proven again.
var ErrForeign = errors.New("the registration does not belong to the engine; the configuration may have changed")

// Bounds on the registrations of one engine, which registers once, under a name
// of some 600 bytes.
const (
	maxFound      = 16
	maxFoundBytes = 4 << 10
)

// Bounded tells whether these may be the registrations of one engine, and not
// what somebody wrote there to fill a memory.
func Bounded(found []Registration) bool {
	size := 0
	for _, r := range found {
		size += len(r)
	}
	return len(found) <= maxFound && size <= maxFoundBytes
}

// Next does the next step; there must be one. After an error it is still to be
// done, and what was achieved is counted.
func (r *Release) Next(ctx context.Context, g Gateway) (err error) {
	step := r.Pending[0]
	switch step {
	case Prove:
		r.Found, err = g.Registrations(ctx, r.Engine)
		switch {
		case err != nil:
			r.Found = nil
		case len(r.Found) == 0 && len(r.Lived) > 0:
			r.Found, r.Lived, r.Expired = r.Lived, nil, true
		case len(r.Found) == 0:
			err = ErrNotRegistered
		case !Bounded(r.Found):
			err = &Refusal{Reason: NotProven, Err: fmt.Errorf("%d registrations carry the driver's keys", len(r.Found)), Remedy: "An engine registers only once, so some of these are forged. They must expire."}
			r.Found = nil
		default:
			r.Lived = nil // there is better proof
		}
	case Deregister:
		if err = g.Deregister(ctx, r); errors.Is(err, ErrForeign) {
			r.Found, r.Lived, r.Expired, r.Pending = nil, nil, false, slices.Clone(Steps)
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

// patience with a server that cannot be reached. One that has gone has taken its
// sessions along.
const patience = 5 * time.Minute

// closeSessions on the servers that are not finished.
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
		case s.Unreachable && time.Since(since[s.Server]) >= patience:
			r.Finished, r.GivenUp = append(r.Finished, s.Server), append(r.GivenUp, s.Server)
		default:
			errs = append(errs, s.Err)
		}
	}
	r.unreachable = since
	return errors.Join(errs...)
}
