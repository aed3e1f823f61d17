package kyuubi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// tree is the part of ZooKeeper that is used. Both methods return [zk.ErrNoNode] if
// there is no such node.
type tree interface {
	Children(path string) ([]string, error)
	Delete(path string) error
	Close()
}

// zooKeeper makes connections to ZooKeeper.
type zooKeeper struct {
	config ZooKeeper
	dial   func(context.Context) (tree, error)
	lookup func(ctx context.Context, host string) (addresses []string, err error)
}

func newZooKeeper(c ZooKeeper) *zooKeeper {
	z := &zooKeeper{config: c, lookup: net.DefaultResolver.LookupHost}
	z.dial = z.connect
	return z
}

// with calls use with a connection of its own, which ends with the time limit. Deaths
// are rare, and a connection that is kept may be the one that hangs.
func (z *zooKeeper) with(ctx context.Context, use func(context.Context, tree) error) error {
	limit := seconds(z.config.TimeoutSeconds)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t, err := z.dial(ctx)
	if err == nil {
		defer t.Close()
		err = use(ctx, t)
	}
	switch {
	case err == nil, gateway.RefusalOf(err) != nil:
		return err
	case errors.Is(err, zk.ErrNoAuth):
		return refuse(gateway.RightsMissing, fmt.Errorf("ZooKeeper: %w", err),
			"Write the user and password of Kyuubi's kyuubi.ha.zookeeper.auth.digest to zookeeper.digestFile.")
	case errors.Is(err, zk.ErrAuthFailed):
		return refuse(gateway.CredentialsRefused, fmt.Errorf("ZooKeeper: %w", err),
			"ZooKeeper refuses this digest authentication. The releaser does not work with a ZooKeeper that requires Kerberos.")
	case ctx.Err() != nil:
		return fmt.Errorf("ZooKeeper did not answer within %s: %w", limit, err)
	}
	return fmt.Errorf("ZooKeeper: %w", err)
}

// maxNames bounds the list of one node's children; Java's own client takes 1 MiB.
const maxNames = 16 << 20

func (z *zooKeeper) connect(ctx context.Context) (tree, error) {
	digest, err := readSecret(z.config.DigestFile)
	if err != nil {
		return nil, fmt.Errorf("reading zookeeper.digestFile: %w", err)
	}
	servers, err := z.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var encrypted *tls.Config
	if z.config.TLS != nil {
		if encrypted, err = z.config.TLS.config("zookeeper.tls"); err != nil {
			return nil, err
		}
	}
	var failed atomic.Pointer[error] // of the last dial; the client does not return it
	dialer := func(network, address string, limit time.Duration) (net.Conn, error) {
		socket, err := dial(ctx, network, address, limit, encrypted)
		if err != nil && ctx.Err() == nil {
			failed.Store(&err)
		}
		return socket, err
	}
	// The releaser has no ephemeral nodes, so the session's length only limits how soon it notices a dead server.
	conn, _, err := zk.Connect(servers, seconds(z.config.TimeoutSeconds),
		zk.WithDialer(dialer), zk.WithLogger(log.New(io.Discard, "", 0)), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxNames))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, conn.Close)
	if digest != "" {
		err = conn.AddAuth("digest", []byte(digest))
	}
	if err == nil { // a server that lags behind catches up
		_, err = conn.Sync(z.config.Root)
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		conn.Close()
		if why := failed.Load(); why != nil {
			err = fmt.Errorf("%w: %w", err, *why)
		}
		return nil, err
	}
	return connection{conn}, nil
}

// dial connects until the context ends, because the client has no time limit for an
// answer.
func dial(ctx context.Context, network, address string, limit time.Duration, encrypted *tls.Config) (net.Conn, error) {
	socket, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = socket.Close() })
	if encrypted == nil {
		return socket, nil
	}
	secured := tls.Client(socket, encrypted)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return secured, nil
}

// addresses returns the addresses of the servers that have a name that resolves now.
// The client itself fails at the first name that does not, for example of a server
// that is being replaced.
func (z *zooKeeper) addresses(ctx context.Context) (known []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, seconds(z.config.TimeoutSeconds)/2)
	defer cancel()
	var (
		lookups sync.WaitGroup
		found   = make([][]string, len(z.config.Servers))
		errs    = make([]error, len(z.config.Servers))
	)
	for i, server := range z.config.Servers {
		lookups.Go(func() {
			host, port, err := net.SplitHostPort(server)
			if err == nil {
				found[i], err = z.lookup(ctx, host)
			}
			for n, address := range found[i] {
				found[i][n] = net.JoinHostPort(address, port)
			}
			errs[i] = err
		})
	}
	lookups.Wait()
	if known = slices.Concat(found...); len(known) == 0 {
		return nil, errors.Join(errs...)
	}
	return known, nil
}

// connection is a tree in ZooKeeper. It may be closed twice.
type connection struct{ *zk.Conn }

func (c connection) Children(path string) ([]string, error) {
	children, _, err := c.Conn.Children(path)
	return children, err
}

func (c connection) Delete(path string) error { return c.Conn.Delete(path, -1) }
