package kyuubi

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

// workbench is a Kyuubi of two servers, a registry, and the gateway that is tested.
type workbench struct {
	tree    *kyuubitest.Tree
	servers []*kyuubitest.Server
	hosts   kyuubitest.Network
	kyuubi  *Kyuubi
}

const someConfig = `
namespaces: [kyuubi]
zookeeper: {servers: ["zookeeper:2181"]}
servers: {urls: ["http://kyuubi-0", "http://kyuubi-1"]}
`

func newWorkbench(t testing.TB, config string) *workbench {
	t.Helper()
	c, err := ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	c.Servers.TimeoutSeconds, c.ZooKeeper.TimeoutSeconds = 60, 60 // the machine may pause
	w := &workbench{tree: &kyuubitest.Tree{}}
	if _, err := w.tree.Register("/kyuubi/serverUri=kyuubi-0:10009;sequence="); err != nil { // Kyuubi's own
		t.Fatal(err)
	}
	for range 2 {
		w.servers = append(w.servers, &kyuubitest.Server{})
	}
	w.hosts = kyuubitest.Network{"kyuubi-0": w.servers[0], "kyuubi-1": w.servers[1]}
	w.kyuubi = New(c, nil)
	w.kyuubi.transport = func() (http.RoundTripper, func(), error) { return w.hosts, func() {}, nil }
	w.kyuubi.dial = func(context.Context) (tree, error) { return w.tree, nil }
	return w
}

// register an engine and open a session of it on each server.
func (w *workbench) register(t testing.TB, space kyuubitest.Space, e gateway.Engine) (node string) {
	t.Helper()
	node, err := kyuubitest.Register(w.tree, space, e.Reference, e.Application, e.Addresses[0]+":44057")
	if err != nil {
		t.Fatal(err)
	}
	user := "alice"
	if space.Level == "USER" || space.Level == "CONNECTION" {
		user = space.User
	}
	for i, s := range w.servers {
		s.Open(kyuubitest.Session{Identifier: handle(e, i), User: user, SessionType: "INTERACTIVE", EngineID: e.Application})
	}
	return node
}

// handle of the engine's session on a server; on the first it is the reference.
func handle(e gateway.Engine, server int) string {
	return string("0123456789abcdef"[server]) + e.Reference[1:]
}

func (w *workbench) die(e gateway.Engine) {
	for _, s := range w.servers {
		s.Engine(e.Application, kyuubitest.Dead)
	}
}

// sessions of an engine that are open on all servers.
func (w *workbench) sessions(e gateway.Engine) (n int) {
	for i, s := range w.servers {
		for _, session := range s.Sessions() {
			if session.Identifier == handle(e, i) {
				n++
			}
		}
	}
	return n
}

// release an engine, all steps.
func (w *workbench) release(t testing.TB, e gateway.Engine) (gateway.Release, error) {
	t.Helper()
	r := released(e)
	for len(r.Pending) > 0 {
		if err := r.Next(t.Context(), w.kyuubi); err != nil {
			return r, err
		}
	}
	return r, nil
}

// released begins the release of an engine that died an hour ago.
func released(e gateway.Engine) gateway.Release {
	return gateway.Release{Engine: e, Death: gateway.Death{At: time.Now().Add(-time.Hour)}, Pending: gateway.Steps}
}

// close sessions, as the last step does.
func (w *workbench) close(t testing.TB, e gateway.Engine) error {
	t.Helper()
	r := released(e)
	r.Pending = []gateway.Step{gateway.CloseSessions}
	return r.Next(t.Context(), w.kyuubi)
}

// deadEngine is that of the recorded driver.
func deadEngine(t testing.TB) gateway.Engine {
	t.Helper()
	pod, err := spark.PodOf(kyuubitest.DriverOOMKilled())
	if err != nil {
		t.Fatal(err)
	}
	e, ok := (*Kyuubi)(nil).Engine(pod)
	if !ok {
		t.Fatal("the recorded driver is no engine")
	}
	return e
}

var (
	usersSpace = kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "default"}
	healthy    = gateway.Engine{Reference: "05ffc5e4-12f5-44cb-8b92-d52469aaba3c", Application: "spark-662a801a9edd4de892011b57b3d807af", Addresses: []string{"10.244.0.100"}}
)
