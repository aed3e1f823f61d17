package kyuubi

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

var ways = map[string]string{"exact": exactConfig, "rest": restConfig}

// At every share level and in engine pools the dead engine is forgotten.
func TestShareLevels(t *testing.T) {
	e := deadEngine(t)
	member, server := e, e
	member.User, server.User = "analysts", "kyuubi"
	for way, config := range ways {
		for name, c := range map[string]struct {
			space  kyuubitest.Space
			engine gateway.Engine
		}{
			"USER":         {usersSpace, e},
			"USER, pool":   {kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "engine-pool-3"}, e},
			"CONNECTION":   {kyuubitest.Space{Level: "CONNECTION", User: "alice", Subdomain: e.Reference}, e},
			"GROUP":        {kyuubitest.Space{Level: "GROUP", User: "analysts", Subdomain: "default"}, member},
			"SERVER":       {kyuubitest.Space{Level: "SERVER", User: "kyuubi", Subdomain: "default"}, server},
			"SERVER_LOCAL": {kyuubitest.Space{Level: "SERVER_LOCAL", User: "kyuubi", Subdomain: "10.0.0.1_default"}, server},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				w := newWorld(t, config)
				node := w.register(t, c.space, c.engine)
				w.die(c.engine)
				r, err := w.release(t, c.engine)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(w.tree.Deleted(), []string{node}) {
					t.Errorf("deleted %q", w.tree.Deleted())
				}
				if r.Sessions != 2 || w.sessions(c.engine) != 0 || len(r.Collateral) > 0 {
					t.Errorf("closed %d, %d are left, collateral %q", r.Sessions, w.sessions(c.engine), r.Collateral)
				}
			})
		}
	}
}

// The exact way finds an engine whose pod does not show in whose space it is.
func TestExactWithoutUser(t *testing.T) {
	e := deadEngine(t)
	for _, user := range []string{"", "somebody", "../kyuubi_1.12.0_USER_SPARK_SQL/alice"} {
		w := newWorld(t, exactConfig)
		w.register(t, usersSpace, e)
		e.User = user
		if _, err := w.release(t, e); err != nil || len(w.tree.Deleted()) != 1 {
			t.Errorf("user %q: %v, deleted %q", user, err, w.tree.Deleted())
		}
	}
}

// Only what carries both keys and the address is the dead pod's registration.
func TestForgedKeys(t *testing.T) {
	own := deadEngine(t)
	for name, forged := range map[string]gateway.Engine{
		"another's tag":                 {Reference: healthy.Reference, Application: own.Application, Addresses: own.Addresses},
		"another's application":         {Reference: own.Reference, Application: healthy.Application, Addresses: own.Addresses},
		"both":                          {Reference: healthy.Reference, Application: healthy.Application, Addresses: own.Addresses},
		"the address alone":             {Reference: own.Reference, Application: own.Application, Addresses: healthy.Addresses},
		"empty tag":                     {Application: healthy.Application, Addresses: healthy.Addresses},
		"empty application":             {Reference: healthy.Reference, Addresses: healthy.Addresses},
		"no address":                    {Reference: healthy.Reference, Application: healthy.Application},
		"an address that is no address": {Reference: healthy.Reference, Application: healthy.Application, Addresses: []string{"", "10.244.0", "10.244.0.100:44057"}},
	} {
		for way, config := range ways {
			t.Run(way+"/"+name, func(t *testing.T) {
				w := newWorld(t, config)
				w.register(t, usersSpace, healthy)
				for _, s := range w.servers {
					s.Open(kyuubitest.Session{Identifier: "launching", SessionType: "INTERACTIVE"})
				}
				forged.User = "alice"
				if _, err := w.release(t, forged); !errors.Is(err, gateway.ErrNotRegistered) {
					t.Error(err)
				}
				// Were there proof after all, sessions without an engine would be left alone.
				forged.Application = own.Application
				if _, err := w.kyuubi.CloseSessions(t.Context(), forged); err != nil {
					t.Error(err)
				}
				if _, err := w.kyuubi.CloseSessions(t.Context(), gateway.Engine{}); err != nil {
					t.Error(err)
				}
				if len(w.tree.Deleted()) > 0 || w.sessions(healthy) != 2 || len(w.servers[0].Sessions()) != 2 {
					t.Errorf("deleted %q, %d sessions are left", w.tree.Deleted(), w.sessions(healthy))
				}
			})
		}
	}
}

// A fresh engine in the same space: the exact way removes the dead one beside
// it, the way rest waits until the dead one has expired.
func TestFreshEngineBeside(t *testing.T) {
	e := deadEngine(t)
	w := newWorld(t, exactConfig)
	node := w.register(t, usersSpace, e)
	w.register(t, usersSpace, healthy)
	if _, err := w.release(t, e); err != nil || !slices.Equal(w.tree.Deleted(), []string{node}) || w.sessions(healthy) != 2 {
		t.Errorf("exact: %v, deleted %q, %d sessions", err, w.tree.Deleted(), w.sessions(healthy))
	}

	w = newWorld(t, restConfig)
	node = w.register(t, usersSpace, e)
	w.register(t, usersSpace, healthy)
	r, err := w.release(t, e)
	if !errors.Is(err, errShared) || len(w.tree.Deleted()) > 0 || w.sessions(e) != 2 {
		t.Fatalf("rest: %v, deleted %q", err, w.tree.Deleted())
	}
	w.tree.Expire(node)
	for len(r.Pending) > 0 {
		if err := r.Next(t.Context(), w.kyuubi); err != nil {
			t.Fatal(err)
		}
	}
	if w.sessions(e) != 0 || w.sessions(healthy) != 2 || len(w.tree.Deleted()) > 0 {
		t.Errorf("rest: %d and %d sessions", w.sessions(e), w.sessions(healthy))
	}
}

// What the way rest takes along in its window is told.
func TestCollateral(t *testing.T) {
	e := deadEngine(t)
	w := newWorld(t, restConfig)
	w.register(t, usersSpace, e)
	r := gateway.Release{Engine: e, Pending: gateway.Steps}
	if err := r.Next(t.Context(), w.kyuubi); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.servers {
		s.Fail(func(answer http.ResponseWriter, r *http.Request) http.ResponseWriter {
			if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/engine") && w.sessions(healthy) == 0 {
				w.register(t, usersSpace, healthy)
			}
			return answer
		})
	}
	if err := r.Next(t.Context(), w.kyuubi); err != nil || !slices.Equal(r.Collateral, []string{healthy.Reference}) {
		t.Errorf("%v, collateral %q", err, r.Collateral)
	}
}
