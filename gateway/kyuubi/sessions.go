package kyuubi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// parallelCloses on one server. A session of a dead engine takes it 10 to 220 ms.
const parallelCloses = 4

// closeSessions on every server at once, so that one that hangs keeps nobody
// waiting. A server that has gone has taken its sessions along.
func (k *Kyuubi) closeSessions(ctx context.Context, e gateway.Engine) (int, error) {
	servers, done, err := k.servers(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	var (
		closed  atomic.Int64
		waiting sync.WaitGroup
		errs    = make([]error, len(servers))
	)
	for i, s := range servers {
		waiting.Go(func() { errs[i] = s.closeSessions(ctx, e, &closed) })
	}
	waiting.Wait()
	return int(closed.Load()), errors.Join(errs...)
}

func (s server) closeSessions(ctx context.Context, e gateway.Engine, closed *atomic.Int64) error {
	var own []string
	err := s.eachSession(ctx, func(found session) {
		interactive := found.SessionType == "" || found.SessionType == "INTERACTIVE"
		if interactive && e.Application != "" && found.EngineID == e.Application {
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
