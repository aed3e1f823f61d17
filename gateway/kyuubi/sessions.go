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

// parallelCloses on one server. A session of a dead engine takes it 10 to 220 ms.
const parallelCloses = 4

// slack of clocks between a server and the node of the engine, and of death's
// time, which is in whole seconds.
const slack = 2 * time.Second

// closeSessions on every server at once, so that one that hangs keeps nobody
// waiting. A server that has gone has taken its sessions along.
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

// closeAll sessions of the engine: interactive, of its application, of its owner
// where it has one, and begun before it died. A fresh engine may have the same
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

// closeForSure asks until the server says that the session is not there: it
// answers 500 for the sessions of a dead engine, or not at all while it waits for
// one that hangs, and has closed them all the same.
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
