package kyuubi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// A tree is what the exact way needs of ZooKeeper. Both methods give [zk.ErrNoNode]
// where there is none.
type tree interface {
	Children(path string) ([]string, error)
	Delete(path string) error
	Close()
}

// exact deregisters in ZooKeeper.
type exact struct {
	config ZooKeeper
	spaces *regexp.Regexp
	dial   func(context.Context) (tree, error)
}

func newExact(c ZooKeeper) *exact {
	x := &exact{config: c}
	x.spaces = regexp.MustCompile(`^` + regexp.QuoteMeta(c.Namespace) + `_[^_]+_(CONNECTION|USER|GROUP|SERVER|SERVER_LOCAL)_` + engineType + `$`)
	x.dial = x.connect
	return x
}

// registrations looks first in the spaces of the user that the pod names, and
// then in all. What a pod says is only a hint, and its ConfigMap, which names
// the space, is not even read.
func (x *exact) registrations(ctx context.Context, e gateway.Engine) (found []gateway.Registration, err error) {
	err = x.with(ctx, func(ctx context.Context, t tree) error {
		if isName(e.User) {
			found, err = x.search(ctx, t, e, func(string) ([]string, error) { return []string{e.User}, nil })
		}
		if err == nil && len(found) == 0 {
			found, err = x.search(ctx, t, e, func(space string) ([]string, error) { return childrenIfAny(t, space) })
		}
		return err
	})
	return found, err
}

// isName tells whether a text can be one step of a path.
func isName(text string) bool {
	return text != "" && text != "." && text != ".." && !strings.Contains(text, "/")
}

func (x *exact) deregister(ctx context.Context, found []gateway.Registration) error {
	return x.with(ctx, func(_ context.Context, t tree) error {
		for _, node := range found {
			if err := t.Delete(string(node)); err != nil && !errors.Is(err, zk.ErrNoNode) {
				return fmt.Errorf("deleting %s: %w", node, err)
			}
		}
		return nil
	})
}

const parallelReads = 16

// search the spaces of some users. Spaces come and go while it reads: what is
// not there any more holds no engine.
func (x *exact) search(ctx context.Context, t tree, e gateway.Engine, usersOf func(space string) ([]string, error)) (found []gateway.Registration, err error) {
	spaces, err := t.Children(x.config.Root)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, &gateway.Refusal{
			Reason: gateway.WrongPath, Err: fmt.Errorf("ZooKeeper has no node %s", x.config.Root),
			Remedy: "Set zookeeper.root to the path behind the servers in Kyuubi's kyuubi.ha.addresses.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", x.config.Root, err)
	}
	var lock sync.Mutex
	reads, reading := errgroup.WithContext(ctx)
	reads.SetLimit(parallelReads)
	for _, space := range spaces {
		level := x.spaces.FindStringSubmatch(space)
		if level == nil {
			continue
		}
		users, err := usersOf(path.Join(x.config.Root, space))
		if err != nil {
			return nil, errors.Join(err, reads.Wait())
		}
		for _, user := range users {
			reads.Go(func() error {
				if err := reading.Err(); err != nil { // no partial answer is taken for a whole one
					return err
				}
				nodes, err := nodesOf(t, path.Join(x.config.Root, space, user), level[1], e)
				lock.Lock()
				defer lock.Unlock()
				found = append(found, nodes...)
				return err
			})
		}
	}
	err = reads.Wait()
	slices.Sort(found)
	return found, err
}

// nodesOf an engine, in the subdomains of a user. An engine of the share level
// CONNECTION has a subdomain to itself, named by its reference.
func nodesOf(t tree, user, level string, e gateway.Engine) (found []gateway.Registration, err error) {
	subdomains := []string{e.Reference}
	if level != "CONNECTION" {
		if subdomains, err = childrenIfAny(t, user); err != nil {
			return nil, err
		}
	}
	for _, subdomain := range subdomains {
		nodes, err := childrenIfAny(t, path.Join(user, subdomain))
		if err != nil {
			return nil, err
		}
		for _, node := range nodes {
			if attributesOf(node).registers(e) {
				found = append(found, gateway.Registration(path.Join(user, subdomain)+"/"+node))
			}
		}
	}
	return found, nil
}

func childrenIfAny(t tree, path string) ([]string, error) {
	children, err := t.Children(path)
	if errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrInvalidPath) { // a forged reference may be no valid name
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return children, nil
}

// with a connection of its own, which ends with the time limit: deaths are rare,
// and a connection that is kept may be the one that hangs.
func (x *exact) with(ctx context.Context, use func(context.Context, tree) error) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(x.config.TimeoutSeconds))
	defer cancel()
	t, err := x.dial(ctx)
	if err == nil {
		defer t.Close()
		err = use(ctx, t)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, zk.ErrNoAuth):
		return &gateway.Refusal{
			Reason: gateway.RightsMissing, Err: fmt.Errorf("ZooKeeper: %w", err),
			Remedy: "Write the user and password of Kyuubi's kyuubi.ha.zookeeper.auth.digest to zookeeper.digestFile.",
		}
	case errors.Is(err, zk.ErrAuthFailed):
		return &gateway.Refusal{
			Reason: gateway.CredentialsRefused, Err: fmt.Errorf("ZooKeeper: %w", err),
			Remedy: `ZooKeeper does not take digest authentication as it is configured; where it wants Kerberos, choose way: rest.`,
		}
	case ctx.Err() != nil:
		return fmt.Errorf("ZooKeeper did not answer within %s: %w", seconds(x.config.TimeoutSeconds), err)
	}
	return fmt.Errorf("ZooKeeper: %w", err)
}

// maxNames bounds the list of one node's children; Java's own client takes 1 MiB.
const maxNames = 16 << 20

func (x *exact) connect(ctx context.Context) (tree, error) {
	digest, err := readSecret(x.config.DigestFile)
	if err != nil {
		return nil, fmt.Errorf("reading zookeeper.digestFile: %w", err)
	}
	dial := func(network, address string, limit time.Duration) (net.Conn, error) {
		connection, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, network, address)
		if err == nil { // the client has no time limit on an answer
			context.AfterFunc(ctx, func() { _ = connection.Close() })
		}
		return connection, err
	}
	// Ephemeral nodes of ours there are none, so the session's length only bounds how soon a dead server is noticed.
	conn, _, err := zk.Connect(x.config.Servers, seconds(x.config.TimeoutSeconds),
		zk.WithDialer(dial), zk.WithLogger(log.New(io.Discard, "", 0)), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxNames))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, conn.Close)
	t := zooKeeper{conn, stop}
	if digest != "" {
		err = conn.AddAuth("digest", []byte(digest))
	}
	if err == nil { // so that a server that lags behind has caught up
		_, err = conn.Sync(x.config.Root)
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Close()
		return nil, err
	}
	return t, nil
}

type zooKeeper struct {
	conn *zk.Conn
	stop func() bool // the watch on the time limit
}

func (z zooKeeper) Children(path string) ([]string, error) {
	children, _, err := z.conn.Children(path)
	return children, err
}

func (z zooKeeper) Delete(path string) error { return z.conn.Delete(path, -1) }

func (z zooKeeper) Close() {
	z.stop()
	z.conn.Close()
}
