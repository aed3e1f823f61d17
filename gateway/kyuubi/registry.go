package kyuubi

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// registry is the part of ZooKeeper in which engines are registered.
type registry struct {
	*zooKeeper
	spaces *regexp.Regexp
	// reads makes one read of the whole tree at a time. All that wait share it.
	reads    singleflight.Group
	overruns atomic.Int32 // reads in a row that took too long
}

func newRegistry(c ZooKeeper) *registry {
	spaces := regexp.MustCompile(`^` + regexp.QuoteMeta(c.Namespace) + `_[^_]+_(CONNECTION|USER|GROUP|SERVER|SERVER_LOCAL)_` + engineType + `$`)
	return &registry{zooKeeper: newZooKeeper(c), spaces: spaces}
}

// Registrations returns an engine's nodes in ZooKeeper. It reads the whole tree, for two reasons:
// it believes neither what a pod says of its user nor the pod's ConfigMap, and it must
// know if another engine has the same application.
func (x *registry) Registrations(ctx context.Context, e gateway.Engine) (found []gateway.Registration, err error) {
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
	return found, checkUnique(nodes, e)
}

// Look returns the registrations of many engines. It reads by itself, so a death does
// not wait for a look, and a look that takes too long refuses no death.
func (x *registry) Look(ctx context.Context, engines []gateway.Engine) (found [][]gateway.Registration, err error) {
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

// checkUnique returns a refusal if another engine has the application's id. Sessions
// name their engine only by this id, and the user who submits a driver can choose it.
func checkUnique(nodes []string, e gateway.Engine) error {
	for _, node := range nodes {
		if a := attributesOf(path.Base(node)); a.hasApplication(e) && !a.registers(e) {
			return refuse(gateway.NotProven, fmt.Errorf("%s has the same kyuubi.engine.id", node),
				"Another engine has the same application id, so nothing shows which of the two a session belongs to. Do not set spark.app.id.")
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

// Deregister removes the registrations of an engine.
func (x *registry) Deregister(ctx context.Context, r *gateway.Release) error {
	for _, found := range r.Found {
		if _, _, ok := x.place(found, r.Engine); !ok {
			return gateway.ErrForeign
		}
	}
	return x.with(ctx, func(_ context.Context, t tree) error {
		for _, node := range r.Found {
			err := t.Delete(string(node))
			if errors.Is(err, zk.ErrNotEmpty) {
				return refuse(gateway.NotProven, fmt.Errorf("deleting %s: %w", node, err), "This node has children, and an engine's node never has any. Look at it in ZooKeeper.")
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
				err = refuse(gateway.NotProven, fmt.Errorf("reading the engines took more than %s", seconds(x.config.TimeoutSeconds)),
					"The tree is too large, or ZooKeeper is too slow. Raise zookeeper.timeoutSeconds.")
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
		return nil, wrongPath(fmt.Errorf("ZooKeeper has no node %s", x.config.Root))
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", x.config.Root, err)
	}
	spaces := slices.DeleteFunc(slices.Clone(children), func(child string) bool { return !x.spaces.MatchString(child) })
	if len(spaces) == 0 && !slices.Contains(children, x.config.Namespace) { // Kyuubi's servers register there
		return nil, wrongPath(fmt.Errorf("%s has no node of the namespace %s; its nodes are %.300q", x.config.Root, x.config.Namespace, children[:min(len(children), 10)]))
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

func wrongPath(err error) error {
	return refuse(gateway.WrongPath, err,
		"Set zookeeper.root to the path after the servers in Kyuubi's kyuubi.ha.addresses, and zookeeper.namespace to kyuubi.ha.namespace.")
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

func refuse(reason gateway.Reason, err error, remedy string) error {
	return &gateway.Refusal{Reason: reason, Err: err, Remedy: remedy}
}
