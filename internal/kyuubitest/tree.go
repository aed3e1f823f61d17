package kyuubitest

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/go-zookeeper/zk"
)

// Registry has the registrations of engines. Children returns [zk.ErrNoNode] if there
// is no such node.
type Registry interface {
	Children(path string) ([]string, error)
	// Register makes an ephemeral node, with its parents, and returns its path. The
	// node's name ends with the next sequence number.
	Register(path string) (string, error)
}

// Tree is a registry in memory. The zero Tree is empty.
type Tree struct {
	lock     sync.Mutex
	children map[string][]string
	sequence int
	// down makes every call fail, like a ZooKeeper that is away.
	down bool
	// deleted are the paths that were deleted by call, in order.
	deleted []string
}

// Down makes every call fail, like a ZooKeeper that is away, or work again.
func (t *Tree) Down(down bool) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.down = down
}

// Deleted returns the paths that were deleted by call, in order.
func (t *Tree) Deleted() []string {
	t.lock.Lock()
	defer t.lock.Unlock()
	return slices.Clone(t.deleted)
}

// Children returns the children of a node, in no useful order.
func (t *Tree) Children(node string) ([]string, error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.down {
		return nil, zk.ErrNoServer
	}
	if !t.exists(node) {
		return nil, zk.ErrNoNode
	}
	return slices.Clone(t.children[node]), nil
}

// Delete deletes a node.
func (t *Tree) Delete(node string) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	switch {
	case t.down:
		return zk.ErrNoServer
	case !t.exists(node):
		return zk.ErrNoNode
	case len(t.children[node]) > 0:
		return zk.ErrNotEmpty
	}
	t.deleted = append(t.deleted, node)
	t.remove(node)
	return nil
}

// Expire removes a node as the end of its owner's session does, even while the tree is
// down.
func (t *Tree) Expire(node string) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.remove(node)
}

// Register adds a node.
func (t *Tree) Register(node string) (string, error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.down {
		return "", zk.ErrNoServer
	}
	if t.children == nil {
		t.children = map[string][]string{}
	}
	node = fmt.Sprintf("%s%010d", node, t.sequence)
	t.sequence++
	for child := node; child != "/"; child = path.Dir(child) {
		parent, name := path.Dir(child), path.Base(child)
		if !slices.Contains(t.children[parent], name) {
			t.children[parent] = append(t.children[parent], name)
		}
	}
	return node, nil
}

// Close does nothing. With it a Tree can be used as a connection.
func (t *Tree) Close() {}

func (t *Tree) exists(node string) bool {
	return node == "/" || slices.Contains(t.children[path.Dir(node)], path.Base(node))
}

func (t *Tree) remove(node string) {
	parent, name := path.Dir(node), path.Base(node)
	t.children[parent] = slices.DeleteFunc(t.children[parent], func(child string) bool { return child == name })
}

// zooKeeper is a real one, with a connection that stays open.
type zooKeeper struct{ conn *zk.Conn }

// ZooKeeper returns a registry in a real ZooKeeper. Its nodes live as long as the
// session of the connection.
func ZooKeeper(conn *zk.Conn) Registry { return zooKeeper{conn} }

func (z zooKeeper) Children(path string) ([]string, error) {
	children, _, err := z.conn.Children(path)
	return children, err
}

func (z zooKeeper) Register(node string) (string, error) {
	everybody := zk.WorldACL(zk.PermAll)
	parent := ""
	for step := range strings.SplitSeq(strings.Trim(path.Dir(node), "/"), "/") {
		parent += "/" + step
		if _, err := z.conn.Create(parent, nil, 0, everybody); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return "", err
		}
	}
	return z.conn.Create(node, nil, zk.FlagEphemeral|zk.FlagSequence, everybody)
}
