package gateway

import (
	"context"
	"errors"
	"fmt"
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
	Died   time.Time            `json:"died"`
	// Found are the registrations that proved it; none until they are found.
	Found []Registration `json:"found,omitempty"`
	// Pending steps, the next first.
	Pending []Step `json:"pending"`
	// Sessions closed so far.
	Sessions   int      `json:"sessions,omitempty"`
	Collateral []string `json:"collateral,omitempty"`
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

// Next does the next step; there must be one. After an error it is still to be
// done, and what was achieved is counted.
func (r *Release) Next(ctx context.Context, g Gateway) (err error) {
	switch r.Pending[0] {
	case Prove:
		r.Found, err = g.Registrations(ctx, r.Engine)
		if err == nil && len(r.Found) == 0 {
			err = ErrNotRegistered
		}
	case Deregister:
		var collateral []string
		collateral, err = g.Deregister(ctx, r.Engine, r.Found)
		r.Collateral = append(r.Collateral, collateral...)
	case CloseSessions:
		var closed int
		closed, err = g.CloseSessions(ctx, r.Engine)
		r.Sessions += closed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Pending[0], err)
	}
	r.Pending = r.Pending[1:]
	return nil
}
