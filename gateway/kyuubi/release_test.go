package kyuubi

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
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
				if err := w.close(t, forged); err != nil {
					t.Error(err)
				}
				if err := w.close(t, gateway.Engine{}); err != nil {
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
	r := released(e)
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

// Sessions name their engine by its application alone, and whoever submits a
// driver can choose that: with another engine of the same one nothing is done.
func TestSharedApplication(t *testing.T) {
	e := deadEngine(t)
	rival := healthy
	rival.Application = e.Application
	for _, before := range []bool{true, false} { // it is registered before the proof, or after the removal
		w := newWorld(t, exactConfig)
		w.register(t, usersSpace, e)
		if before {
			w.register(t, usersSpace, rival)
		}
		r := released(e)
		var err error
		for err == nil && len(r.Pending) > 0 {
			if !before && r.Pending[0] == gateway.CloseSessions {
				w.register(t, usersSpace, rival)
			}
			err = r.Next(t.Context(), w.kyuubi)
		}
		if refusal := gateway.RefusalOf(err); refusal == nil || refusal.Reason != gateway.NotProven || w.sessions(rival) != 2 || before == (len(w.tree.Deleted()) > 0) {
			t.Errorf("before: %t: %v, deleted %q", before, err, w.tree.Deleted())
		}
	}
}

// Sessions of somebody else, or begun after the death, are another engine's.
func TestOthersSessions(t *testing.T) {
	e := deadEngine(t)
	for way, config := range ways {
		w := newWorld(t, config)
		w.register(t, usersSpace, e)
		r := released(e)
		for _, other := range []kyuubitest.Session{
			{Identifier: "bobs", User: "bob"}, {Identifier: "later", User: "alice", CreateTime: r.Death.At.Add(2 * slack).UnixMilli()},
		} {
			other.EngineID, other.SessionType = e.Application, "INTERACTIVE"
			w.servers[0].Open(other)
		}
		for len(r.Pending) > 0 {
			if err := r.Next(t.Context(), w.kyuubi); err != nil {
				t.Fatal(way, err)
			}
		}
		if left := w.servers[0].Sessions(); len(left) != 2 || w.sessions(e) != 0 {
			t.Errorf("%s: %v", way, left)
		}
	}
}

// The namespace that Kyuubi wrote must be the pod's.
func TestAnotherNamespace(t *testing.T) {
	for info, want := range map[string]bool{
		`{"resourceManager":"k8s://https://192.0.2.2:16443","kubernetesInfo":{"context":null,"namespace":"kyuubi"}}`: true,
		`{"kubernetesInfo":{"namespace":"strangers"}}`:                                                               false,
		`{"kubernetesInfo":{}}`: true,
		`{`:                     false,
	} {
		e := deadEngine(t)
		a := attributes{"refId": e.Reference, "kyuubi.engine.id": e.Application, "serverUri": e.Addresses[0] + ":1", "kyuubi.engine.appMgrInfo": base64.StdEncoding.EncodeToString([]byte(info))}
		if a.registers(e) != want {
			t.Errorf("%s: %t", info, !want)
		}
	}
}

// A label that was changed is not that of the driver's environment.
func TestRelabelled(t *testing.T) {
	pod := kyuubitest.DriverOOMKilled()
	pod.Labels[spark.ApplicationLabel] = healthy.Application
	driver, err := spark.PodOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := engineOf(driver); ok {
		t.Error("taken for an engine of the label's application")
	}
}

// A registration that the configuration does not cover is not removed, but
// proven again.
func TestForeignRegistration(t *testing.T) {
	e := deadEngine(t)
	for way, config := range ways {
		w := newWorld(t, config)
		node := w.register(t, usersSpace, e)
		other := w.register(t, usersSpace, healthy)
		for _, foreign := range []string{other, "/root" + node, "/elsewhere" + node[strings.LastIndex(node, "/"):], "type=SPARK_SQL"} {
			r := released(e)
			r.Found, r.Pending = []gateway.Registration{gateway.Registration(foreign)}, gateway.Steps[1:]
			if err := r.Next(t.Context(), w.kyuubi); way == "exact" && !errors.Is(err, gateway.ErrForeign) || way == "rest" && err == nil {
				t.Errorf("%s, %s: %v", way, foreign, err)
			}
			if len(w.tree.Deleted()) > 0 {
				t.Errorf("%s, %s: deleted", way, foreign)
			}
		}
	}
}

// A root or namespace where no Kyuubi is is told, with what is there.
func TestWrongNamespace(t *testing.T) {
	w := newWorld(t, strings.Replace(exactConfig, `"zookeeper:2181"]`, `"zookeeper:2181"], namespace: other`, 1))
	w.register(t, usersSpace, deadEngine(t))
	_, err := w.release(t, deadEngine(t))
	if refusal := gateway.RefusalOf(err); refusal == nil || refusal.Reason != gateway.WrongPath || !strings.Contains(err.Error(), "kyuubi_1.12.0_USER_SPARK_SQL") {
		t.Error(err)
	}
}

// Names of ZooKeeper's servers that are not known stop nothing while one is.
func TestUnknownNames(t *testing.T) {
	c, err := ParseConfig([]byte(strings.Replace(exactConfig, `"zookeeper:2181"`, `"gone:2181", "zookeeper:2182", "other:2181"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	x := newExact(*c.ZooKeeper)
	known := map[string][]string{"zookeeper": {"10.0.0.1", "fd00::1"}}
	x.lookup = func(_ context.Context, host string) ([]string, error) {
		if known[host] == nil {
			return nil, errors.New("no such host " + host)
		}
		return slices.Clone(known[host]), nil
	}
	if got, err := x.addresses(t.Context()); err != nil || !slices.Equal(got, []string{"10.0.0.1:2182", "[fd00::1]:2182"}) {
		t.Errorf("%q, %v", got, err)
	}
	known = nil
	if _, err := x.addresses(t.Context()); err == nil || !strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "other") {
		t.Error(err)
	}
}

// A server that cannot be reached is given up after some minutes; the others are
// not asked again.
func TestServerGone(t *testing.T) {
	e := deadEngine(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exactConfig)
		w.register(t, usersSpace, e)
		delete(w.hosts, "kyuubi-1")
		asked := 0
		w.servers[0].Fail(func(answer http.ResponseWriter, r *http.Request) http.ResponseWriter {
			if r.Method == http.MethodGet {
				asked++
			}
			return answer
		})
		r, err := w.release(t, e)
		for begun := time.Now(); err != nil; err = r.Next(t.Context(), w.kyuubi) {
			if time.Since(begun) > 6*time.Minute {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if asked != 1 || !slices.Equal(r.GivenUp, []string{"http://kyuubi-1"}) || len(w.servers[0].Sessions()) > 0 {
			t.Errorf("asked %d times, given up %q", asked, r.GivenUp)
		}
	})
}

// An empty list is not the end of an engine right after its death, and later
// only when two say it.
func TestRESTAbsent(t *testing.T) {
	e := deadEngine(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, restConfig)
		w.register(t, usersSpace, e)
		r := released(e)
		r.Death.At = time.Now()
		if err := r.Next(t.Context(), w.kyuubi); err != nil {
			t.Fatal(err)
		}
		empty := func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			if strings.HasSuffix(r.URL.Path, "/engine") {
				says(200, "[]")(w, r)
				return nil
			}
			return w
		}
		w.servers[0].Fail(empty)
		w.servers[1].Fail(empty)
		if err := r.Next(t.Context(), w.kyuubi); !errors.Is(err, errAbsent) {
			t.Error(err)
		}
		time.Sleep(2 * expiry)
		w.servers[1].Fail(nil)
		if err := r.Next(t.Context(), w.kyuubi); err != nil || len(w.tree.Deleted()) != 1 {
			t.Errorf("%v, deleted %q", err, w.tree.Deleted())
		}
	})
}
