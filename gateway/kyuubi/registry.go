package kyuubi

import (
	"context"
	"crypto/tls"
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
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// tree is the part of ZooKeeper that is used. Both methods return [zk.ErrNoNode] if
// there is no such node.
type tree interface {
	Children(path string) ([]string, error)
	Delete(path string) error
	Close()
}

// registry is the part of ZooKeeper where engines are registered.
type registry struct {
	config ZooKeeper
	spaces *regexp.Regexp
	dial   func(context.Context) (tree, error)
	lookup func(ctx context.Context, host string) (addresses []string, err error)
	// reads makes one read of the whole tree at a time. All that wait share it.
	reads    singleflight.Group
	overruns atomic.Int32 // reads in a row that took too long
}

func newRegistry(c ZooKeeper) *registry {
	x := &registry{config: c, lookup: net.DefaultResolver.LookupHost}
	x.spaces = regexp.MustCompile(`^` + regexp.QuoteMeta(c.Namespace) + `_[^_]+_(CONNECTION|USER|GROUP|SERVER|SERVER_LOCAL)_` + engineType + `$`)
	x.dial = x.connect
	return x
}

// registrations returns those of an engine. It reads the whole tree, for two reasons:
// it believes neither what a pod says of its user nor the pod's ConfigMap, and it must
// know if another engine has the same application.
func (x *registry) registrations(ctx context.Context, e gateway.Engine) (found []gateway.Registration, err error) {
	nodes, err := x.read(ctx)
	for _, node := range nodes {
		if attributesOf(path.Base(node)).registers(e) {
			found = append(found, gateway.Registration(node))
		}
	}
	if len(found) == 0 || err != nil {
		return nil, err
	}
	slices.Sort(found)
	return found, rivals(nodes, e)
}

// look returns the registrations of many engines. It reads by itself, so a death does
// not wait for a look, and a look that takes too long refuses no death.
func (x *registry) look(ctx context.Context, engines []gateway.Engine) (found [][]gateway.Registration, err error) {
	var nodes []string
	err = x.with(ctx, func(ctx context.Context, t tree) (err error) {
		nodes, err = x.engines(ctx, t, lookingReads)
		return err
	})
	if err != nil {
		return nil, err
	}
	known := map[string][]int{}
	for i, e := range engines {
		known[e.Reference] = append(known[e.Reference], i)
	}
	found = make([][]gateway.Registration, len(engines))
	for _, node := range nodes {
		a := attributesOf(path.Base(node))
		for _, i := range known[a["refId"]] {
			if a.registers(engines[i]) {
				found[i] = append(found[i], gateway.Registration(node))
			}
		}
	}
	for _, one := range found {
		slices.Sort(one)
	}
	return found, nil
}

// noRivals returns a refusal if another engine has the application's id. Sessions name
// their engine only by this id, and the user who submits a driver can choose it.
func (x *registry) noRivals(ctx context.Context, e gateway.Engine) error {
	nodes, err := x.read(ctx)
	if err != nil {
		return err
	}
	return rivals(nodes, e)
}

func rivals(nodes []string, e gateway.Engine) error {
	for _, node := range nodes {
		if a := attributesOf(path.Base(node)); a.hasApplication(e) && !a.registers(e) {
			return &gateway.Refusal{
				Reason: gateway.NotProven, Err: fmt.Errorf("%s has the same kyuubi.engine.id", node),
				Remedy: "Another engine has the same application id, so nothing shows which of the two a session belongs to. Do not set spark.app.id.",
			}
		}
	}
	return nil
}

// place returns the level and user of a registration's space. ok is false if it is not
// a registration of the engine below the root.
func (x *registry) place(r gateway.Registration, e gateway.Engine) (level, user string, ok bool) {
	below, ok := strings.CutPrefix(string(r), strings.TrimSuffix(x.config.Root, "/")+"/")
	steps := strings.Split(below, "/")
	if !ok || len(steps) != 4 || path.Clean(string(r)) != string(r) || !attributesOf(steps[3]).registers(e) {
		return "", "", false
	}
	space := x.spaces.FindStringSubmatch(steps[0])
	if space == nil {
		return "", "", false
	}
	return space[1], steps[1], true
}

func (x *registry) deregister(ctx context.Context, r *gateway.Release) error {
	for _, found := range r.Found {
		if _, _, ok := x.place(found, r.Engine); !ok {
			return gateway.ErrForeign
		}
	}
	return x.with(ctx, func(_ context.Context, t tree) error {
		for _, node := range r.Found {
			err := t.Delete(string(node))
			if errors.Is(err, zk.ErrNotEmpty) {
				return &gateway.Refusal{Reason: gateway.NotProven, Err: fmt.Errorf("deleting %s: %w", node, err), Remedy: "This node has children, and an engine's node never has any. Look at it in ZooKeeper."}
			}
			if err != nil && !errors.Is(err, zk.ErrNoNode) {
				return fmt.Errorf("deleting %s: %w", node, err)
			}
		}
		return nil
	})
}

const (
	parallelReads = 16
	lookingReads  = 4 // for a look, which no one waits for
	maxOverruns   = 3
)

// read returns the paths of all engines.
func (x *registry) read(ctx context.Context) ([]string, error) {
	nodes, err, _ := x.reads.Do("", func() (any, error) {
		var nodes []string
		err := x.with(context.WithoutCancel(ctx), func(ctx context.Context, t tree) (err error) {
			nodes, err = x.engines(ctx, t, parallelReads)
			if err == nil || ctx.Err() == nil {
				x.overruns.Store(0)
			} else if x.overruns.Add(1) >= maxOverruns {
				err = &gateway.Refusal{
					Reason: gateway.NotProven, Err: fmt.Errorf("reading the engines took more than %s", seconds(x.config.TimeoutSeconds)),
					Remedy: "The tree is too large, or ZooKeeper is too slow. Raise zookeeper.timeoutSeconds.",
				}
			}
			return err
		})
		return nodes, err
	})
	return nodes.([]string), err
}

// engines returns the engines of all spaces. They come and go while it reads: a node
// that is gone has no engine.
func (x *registry) engines(ctx context.Context, t tree, parallel int) (found []string, err error) {
	children, err := t.Children(x.config.Root)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, x.wrongPath(fmt.Errorf("ZooKeeper has no node %s", x.config.Root))
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", x.config.Root, err)
	}
	spaces := slices.DeleteFunc(slices.Clone(children), func(child string) bool { return !x.spaces.MatchString(child) })
	if len(spaces) == 0 && !slices.Contains(children, x.config.Namespace) { // Kyuubi's servers register there
		return nil, x.wrongPath(fmt.Errorf("%s has no node of the namespace %s; its nodes are %.300q", x.config.Root, x.config.Namespace, children[:min(len(children), 10)]))
	}
	for _, space := range spaces {
		found = append(found, path.Join(x.config.Root, space))
	}
	for range 3 { // users, subdomains, engines
		if found, err = childrenOf(ctx, t, found, parallel); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (x *registry) wrongPath(err error) error {
	return &gateway.Refusal{
		Reason: gateway.WrongPath, Err: err,
		Remedy: "Set zookeeper.root to the path after the servers in Kyuubi's kyuubi.ha.addresses, and zookeeper.namespace to kyuubi.ha.namespace.",
	}
}

// childrenOf returns the children of those parents that exist.
func childrenOf(ctx context.Context, t tree, parents []string, parallel int) (found []string, err error) {
	var lock sync.Mutex
	reads, reading := errgroup.WithContext(ctx)
	reads.SetLimit(parallel)
	for _, parent := range parents {
		reads.Go(func() error {
			if err := reading.Err(); err != nil { // no partial answer is taken for a whole one
				return err
			}
			children, err := t.Children(parent)
			if err != nil && !errors.Is(err, zk.ErrNoNode) {
				return fmt.Errorf("reading %s: %w", parent, err)
			}
			lock.Lock()
			defer lock.Unlock()
			for _, child := range children {
				found = append(found, parent+"/"+child)
			}
			return nil
		})
	}
	err = reads.Wait()
	return found, err
}

// with calls use with a connection of its own, which ends with the time limit. Deaths
// are rare, and a connection that is kept may be the one that hangs.
func (x *registry) with(ctx context.Context, use func(context.Context, tree) error) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(x.config.TimeoutSeconds))
	defer cancel()
	t, err := x.dial(ctx)
	if err == nil {
		defer t.Close()
		err = use(ctx, t)
	}
	switch {
	case err == nil, gateway.RefusalOf(err) != nil:
		return err
	case errors.Is(err, zk.ErrNoAuth):
		return &gateway.Refusal{
			Reason: gateway.RightsMissing, Err: fmt.Errorf("ZooKeeper: %w", err),
			Remedy: "Write the user and password of Kyuubi's kyuubi.ha.zookeeper.auth.digest to zookeeper.digestFile.",
		}
	case errors.Is(err, zk.ErrAuthFailed):
		return &gateway.Refusal{
			Reason: gateway.CredentialsRefused, Err: fmt.Errorf("ZooKeeper: %w", err),
			Remedy: "ZooKeeper refuses this digest authentication. The releaser does not work with a ZooKeeper that requires Kerberos.",
		}
	case ctx.Err() != nil:
		return fmt.Errorf("ZooKeeper did not answer within %s: %w", seconds(x.config.TimeoutSeconds), err)
	}
	return fmt.Errorf("ZooKeeper: %w", err)
}

// maxNames bounds the list of one node's children; Java's own client takes 1 MiB.
const maxNames = 16 << 20

func (x *registry) connect(ctx context.Context) (tree, error) {
	digest, err := readSecret(x.config.DigestFile)
	if err != nil {
		return nil, fmt.Errorf("reading zookeeper.digestFile: %w", err)
	}
	servers, err := x.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var encrypted *tls.Config
	if x.config.TLS != nil {
		if encrypted, err = x.config.TLS.config("zookeeper.tls"); err != nil {
			return nil, err
		}
	}
	var failed atomic.Pointer[error] // of the last dial; the client does not return it
	dial := func(network, address string, limit time.Duration) (net.Conn, error) {
		connection, err := dialZooKeeper(ctx, network, address, limit, encrypted)
		if err != nil && ctx.Err() == nil {
			failed.Store(&err)
		}
		return connection, err
	}
	// The releaser has no ephemeral nodes, so the session's length only limits how soon it notices a dead server.
	conn, _, err := zk.Connect(servers, seconds(x.config.TimeoutSeconds),
		zk.WithDialer(dial), zk.WithLogger(log.New(io.Discard, "", 0)), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxNames))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, conn.Close)
	t := zooKeeper{conn, stop}
	if digest != "" {
		err = conn.AddAuth("digest", []byte(digest))
	}
	if err == nil { // a server that lags behind catches up
		_, err = conn.Sync(x.config.Root)
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Close()
		if why := failed.Load(); why != nil {
			err = fmt.Errorf("%w: %w", err, *why)
		}
		return nil, err
	}
	return t, nil
}

// dialZooKeeper connects until the context ends, because the client has no time limit
// for an answer.
func dialZooKeeper(ctx context.Context, network, address string, limit time.Duration, encrypted *tls.Config) (net.Conn, error) {
	connection, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = connection.Close() })
	if encrypted == nil {
		return connection, nil
	}
	shaken := tls.Client(connection, encrypted)
	if err := shaken.HandshakeContext(ctx); err != nil {
		_ = connection.Close()
		return nil, err
	}
	return shaken, nil
}

// addresses returns those of the servers whose names resolve now. The client itself
// fails at the first name that does not, for example of a server that is being
// replaced.
func (x *registry) addresses(ctx context.Context) (known []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, seconds(x.config.TimeoutSeconds)/2)
	defer cancel()
	var (
		lookups sync.WaitGroup
		found   = make([][]string, len(x.config.Servers))
		errs    = make([]error, len(x.config.Servers))
	)
	for i, server := range x.config.Servers {
		lookups.Go(func() {
			host, port, err := net.SplitHostPort(server)
			if err == nil {
				found[i], err = x.lookup(ctx, host)
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
