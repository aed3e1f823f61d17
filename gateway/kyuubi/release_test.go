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

// At every share level and in engine pools the dead engine is deregistered.
func TestShareLevels(t *testing.T) {
	e := deadEngine(t)
	for name, space := range map[string]kyuubitest.Space{
		"USER":         usersSpace,
		"USER, pool":   {Level: "USER", User: "alice", Subdomain: "engine-pool-3"},
		"CONNECTION":   {Level: "CONNECTION", User: "alice", Subdomain: e.Reference},
		"GROUP":        {Level: "GROUP", User: "analysts", Subdomain: "default"},
		"SERVER":       {Level: "SERVER", User: "kyuubi", Subdomain: "default"},
		"SERVER_LOCAL": {Level: "SERVER_LOCAL", User: "kyuubi", Subdomain: "10.0.0.1_default"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkbench(t, someConfig)
			node := w.register(t, space, e)
			w.die(e)
			r, err := w.release(t, e)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.tree.Deleted(), []string{node}) {
				t.Errorf("deleted %q", w.tree.Deleted())
			}
			if r.Sessions != 2 || w.sessions(e) != 0 {
				t.Errorf("closed %d, %d are left", r.Sessions, w.sessions(e))
			}
		})
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
		t.Run(name, func(t *testing.T) {
			w := newWorkbench(t, someConfig)
			w.register(t, usersSpace, healthy)
			for _, s := range w.servers {
				s.Open(kyuubitest.Session{Identifier: "launching", SessionType: "INTERACTIVE"})
			}
			if _, err := w.release(t, forged); !errors.Is(err, gateway.ErrNotRegistered) {
				t.Error(err)
			}
			// Even with a proof, sessions without an engine are not closed.
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

// A fresh engine in the same space stays, and so do its sessions.
func TestFreshEngineBeside(t *testing.T) {
	e := deadEngine(t)
	w := newWorkbench(t, someConfig)
	node := w.register(t, usersSpace, e)
	w.register(t, usersSpace, healthy)
	if _, err := w.release(t, e); err != nil || !slices.Equal(w.tree.Deleted(), []string{node}) || w.sessions(healthy) != 2 {
		t.Errorf("%v, deleted %q, %d sessions", err, w.tree.Deleted(), w.sessions(healthy))
	}
}

// Sessions name their engine only by its application, and the user who submits a driver
// can choose that. If another engine has the same one, nothing is done.
func TestSharedApplication(t *testing.T) {
	e := deadEngine(t)
	rival := healthy
	rival.Application = e.Application
	for _, before := range []bool{true, false} { // it is registered before the proof, or after the removal
		w := newWorkbench(t, someConfig)
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
	w := newWorkbench(t, someConfig)
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
			t.Fatal(err)
		}
	}
	if left := w.servers[0].Sessions(); len(left) != 2 || w.sessions(e) != 0 {
		t.Error(left)
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
	if _, ok := (*Kyuubi)(nil).Engine(driver); ok {
		t.Error("taken for an engine of the label's application")
	}
}

// A registration that the configuration does not cover is not removed, but
// proven again.
func TestForeignRegistration(t *testing.T) {
	e := deadEngine(t)
	w := newWorkbench(t, someConfig)
	node := w.register(t, usersSpace, e)
	other := w.register(t, usersSpace, healthy)
	for _, foreign := range []string{other, "/root" + node, "/elsewhere" + node[strings.LastIndex(node, "/"):], "type=SPARK_SQL"} {
		r := released(e)
		r.Found, r.Pending = []gateway.Registration{gateway.Registration(foreign)}, gateway.Steps[1:]
		if err := r.Next(t.Context(), w.kyuubi); !errors.Is(err, gateway.ErrForeign) || len(w.tree.Deleted()) > 0 {
			t.Errorf("%s: %v, deleted %q", foreign, err, w.tree.Deleted())
		}
	}
}

// A root or namespace without a Kyuubi is reported, with what is there.
func TestWrongNamespace(t *testing.T) {
	w := newWorkbench(t, strings.Replace(someConfig, `"zookeeper:2181"]`, `"zookeeper:2181"], namespace: other`, 1))
	w.register(t, usersSpace, deadEngine(t))
	_, err := w.release(t, deadEngine(t))
	if refusal := gateway.RefusalOf(err); refusal == nil || refusal.Reason != gateway.WrongPath || !strings.Contains(err.Error(), "kyuubi_1.12.0_USER_SPARK_SQL") {
		t.Error(err)
	}
}

// Names of ZooKeeper's servers that are not known stop nothing while one is.
func TestUnknownNames(t *testing.T) {
	c, err := ParseConfig([]byte(strings.Replace(someConfig, `"zookeeper:2181"`, `"gone:2181", "zookeeper:2182", "other:2181"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	x := newRegistry(*c.ZooKeeper)
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
		w := newWorkbench(t, someConfig)
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
