package stories

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

// release is a story of an engine of Kyuubi's that dies, registered in a real
// ZooKeeper. Kyuubi's servers are two of a stand-in, the engine is a real Spark
// driver of its main class.
type release struct {
	story
	dies func(*testing.T, *run)
	// control: nobody releases it.
	control bool
}

const engineTag = "0d2c7e5a-9a3b-4d57-8c41-6f0e8a1b2c3d"

// engine that takes more memory than it may after some seconds.
func engine(seconds string, more map[string]string) app {
	c := conf(
		"spark.kubernetes.driver.label.kyuubi-unique-tag", engineTag,
		"spark.driver.defaultJavaOptions", "-XX:MaxDirectMemorySize=4g")
	for key, value := range more {
		c[key] = value
	}
	return app{class: "org.apache.kyuubi.engine.spark.SparkSQLEngine", args: []string{seconds}, variant: image.Engine, conf: c, driver: shortGrace}
}

var releaseStories = []release{
	{story: story{name: "release-oom", why: "the kernel ends an engine: its node and its sessions go at once, a fresh engine stays", app: engine("40", nil), ci: newest, host: true}},
	{
		story: story{name: "release-hung", why: "the same of an engine that its liveness probe ends", app: engine("600", fast(nil)), host: true},
		dies:  func(t *testing.T, r *run) { freeze(t, r.driverPod(t)) },
	},
	{story: story{name: "no-release", why: "the control: the node goes when its session expires, the sessions never", app: engine("40", nil), host: true}, control: true},
}

func TestRelease(t *testing.T) {
	for _, s := range releaseStories {
		s.run(t, func(t *testing.T, version string) { s.tell(t, version) })
	}
}

const expiry = time.Minute // of an engine's session with ZooKeeper; Kyuubi's default

func (s release) tell(t *testing.T, version string) {
	zookeeper, err := cluster.StartZooKeeper(t.Context(), t.TempDir(), os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer zookeeper.Stop()
	dead, fresh := connect(t, zookeeper), connect(t, zookeeper)
	var urls []string
	var servers []*kyuubitest.Server
	for range 2 {
		server := &kyuubitest.Server{Registry: fresh.registry}
		served := httptest.NewServer(server)
		defer served.Close()
		servers, urls = append(servers, server), append(urls, served.URL)
	}

	r := submit(t, s.name, version, s.app, true)
	r.untilLog(t, "CONTEXT")
	pod := r.driverPod(t)
	own := pod.Labels[spark.ApplicationLabel]
	space := kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "default"}
	node := dead.register(t, space, engineTag, own, pod.Status.PodIP+":44057")
	freshNode := fresh.register(t, space, strings.Replace(engineTag, "0d", "1d", 1), "spark-fresh", "10.9.9.9:40000")
	var early []string // sessions that were closed while the node was there
	for i, server := range servers {
		server.Open(kyuubitest.Session{Identifier: fmt.Sprintf("%d%s", i, engineTag[1:]), User: "alice", SessionType: "INTERACTIVE", EngineID: own})
		server.Open(kyuubitest.Session{Identifier: fmt.Sprintf("%d%s", i+2, engineTag[1:]), User: "alice", SessionType: "INTERACTIVE", EngineID: "spark-fresh"})
		server.Fail(func(w http.ResponseWriter, request *http.Request) http.ResponseWriter {
			if request.Method == http.MethodDelete && fresh.has(t, node) {
				early = append(early, request.URL.Path)
			}
			return w
		})
	}
	if !s.control {
		stop, err := theLab.StartReleaser(t.Context(), fmt.Sprintf("namespaces: [%s]\nzookeeper: {servers: [%q]}\nservers: {urls: [%q, %q]}\n", r.Namespace, zookeeper.Address, urls[0], urls[1]), r.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := stop(); err != nil {
				t.Log(err)
			}
		}()
	}
	if s.dies != nil {
		s.dies(t, r)
	}
	r.until(t, "the engine is dead", func(h *lab.History) bool { return h.Driver().Terminated() != nil })
	reported := time.Now()
	dead.cut() // as the kernel does, when a process ends without a word to ZooKeeper
	for _, server := range servers {
		server.Engine(own, kyuubitest.Dead)
	}

	sessions := func(application string) (n int) {
		for _, server := range servers {
			for _, session := range server.Sessions() {
				if session.EngineID == application {
					n++
				}
			}
		}
		return n
	}
	poll(t, "the node is gone", func() error {
		if fresh.has(t, node) {
			return fmt.Errorf("%s is there", node)
		}
		return nil
	})
	gone := time.Since(reported)
	if s.control {
		if sessions(own) != 2 || gone < expiry/2 {
			t.Errorf("without a releaser the node went after %s, and %d sessions are open", gone, sessions(own))
		}
		theTable.add(t, s.name, r, fmt.Sprintf("node gone after %.1f s, by the end of its session; sessions stay", gone.Seconds()))
		return
	}
	poll(t, "its sessions are closed", func() error {
		if n := sessions(own); n > 0 {
			return fmt.Errorf("%d sessions are open", n)
		}
		return nil
	})
	closed := time.Since(reported)
	r.until(t, "the driver is marked", func(h *lab.History) bool { return h.Driver().Last.Annotations[annotations.Released] != "" })
	if mark := gateway.MarkOf(r.driverPod(t)); mark.Registration != gateway.Deregistered {
		t.Errorf("the releaser did not take the node away itself: %+v", mark)
	}
	if len(early) > 0 {
		t.Errorf("closed while the engine was registered: %q", early)
	}
	if gone > expiry/2 {
		t.Errorf("the node went after %s: by the end of its session, and not by the release", gone)
	}
	if !fresh.has(t, freshNode) || sessions("spark-fresh") != 2 {
		t.Error("the fresh engine was touched")
	}
	theTable.add(t, s.name, r, fmt.Sprintf("node gone %.1f s and sessions closed %.1f s after the kubelet's report; the fresh engine stays", gone.Seconds(), closed.Seconds()))
}

// member is a connection to ZooKeeper, such as an engine has.
type member struct {
	registry kyuubitest.Registry
	conn     *zk.Conn
	sockets  *sockets
}

func connect(t *testing.T, z *cluster.ZooKeeper) *member {
	t.Helper()
	s := &sockets{}
	conn, _, err := zk.Connect([]string{z.Address}, expiry, zk.WithLogger(log.New(io.Discard, "", 0)), zk.WithDialer(s.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &member{kyuubitest.ZooKeeper(conn), conn, s}
}

func (m *member) register(t *testing.T, space kyuubitest.Space, reference, application, address string) string {
	t.Helper()
	node, err := kyuubitest.Register(m.registry, space, reference, application, address)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func (m *member) has(t *testing.T, node string) bool {
	var children []string
	poll(t, "ZooKeeper answers", func() (err error) {
		children, err = m.registry.Children(path.Dir(node))
		return err
	})
	return slices.Contains(children, path.Base(node))
}

// cut the connection for ever, without ending the session.
func (m *member) cut() { m.sockets.cut() }
