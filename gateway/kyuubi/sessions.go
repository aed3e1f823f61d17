package kyuubi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// parallelCloses is the limit for one server, which needs 10 to 220 ms to close a
// session of a dead engine.
const parallelCloses = 4

// slack bounds the difference between the clocks of a server and the engine's node, and
// the rounding of the death's time to whole seconds.
const slack = 2 * time.Second

// closeSessions closes sessions on all servers in parallel, so one that hangs delays no
// other. A server that is gone has no sessions any more.
func (k *Kyuubi) closeSessions(ctx context.Context, r *gateway.Release) ([]gateway.Closed, error) {
	servers, done, err := k.servers(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	servers = slices.DeleteFunc(servers, func(s server) bool { return slices.Contains(r.Finished, s.name) })
	var (
		waiting sync.WaitGroup
		closed  = make([]gateway.Closed, len(servers))
	)
	for i, s := range servers {
		waiting.Go(func() { closed[i] = s.closeSessions(ctx, r, k.owner(r)) })
	}
	waiting.Wait()
	return closed, nil
}

func (s server) closeSessions(ctx context.Context, r *gateway.Release, owner string) gateway.Closed {
	var closed atomic.Int64
	err := s.closeAll(ctx, r, owner, &closed)
	if s.unready && errors.Is(err, syscall.ECONNREFUSED) { // it has no sessions yet, or none any more
		err = nil
	}
	return gateway.Closed{Server: s.name, Sessions: int(closed.Load()), Unreachable: errors.Is(err, errUnreachable), Err: err}
}

// closeAll closes the engine's sessions: interactive ones of its application, of its
// owner if there is one, that began before it died. A new engine may have the same
// application id.
func (s server) closeAll(ctx context.Context, r *gateway.Release, owner string, closed *atomic.Int64) error {
	var own []string
	e := r.Engine
	err := s.eachSession(ctx, owner, func(found session) {
		interactive := found.SessionType == "" || found.SessionType == "INTERACTIVE"
		before := !time.UnixMilli(found.CreateTime).After(r.Death.At.Add(slack))
		if interactive && before && e.Application != "" && found.EngineID == e.Application && (owner == "" || found.User == owner) {
			own = append(own, found.Identifier)
		}
	})
	if err != nil {
		return err
	}
	var closing errgroup.Group
	closing.SetLimit(parallelCloses)
	for _, identifier := range own {
		closing.Go(func() error {
			err := s.closeForSure(ctx, identifier)
			if err == nil {
				closed.Add(1)
			}
			return err
		})
	}
	return closing.Wait()
}

// closeForSure repeats the call until the server says that there is no such session.
// For a session of a dead engine a server answers 500, or does not answer while it
// waits for an engine that hangs; it closes the session in both cases.
func (s server) closeForSure(ctx context.Context, identifier string) error {
	var err error
	for range 2 {
		err = s.closeSession(ctx, identifier)
		if err == nil || errors.Is(err, errNoSession) {
			return nil
		}
		if !errors.Is(err, errUnsure) {
			break
		}
	}
	return fmt.Errorf("closing session %s: %w", identifier, err)
}
