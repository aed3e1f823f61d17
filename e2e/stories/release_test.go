package stories

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

// release is a story of a Kyuubi engine that dies while it is registered in a real
// ZooKeeper. Kyuubi's two servers are stand-ins; the engine is a real Spark driver with
// the engine's main class.
type release struct {
	story
	dies func(*testing.T, *run)
	mark annotations.ReleaseResult // of the release; "" where nobody releases it
}

const engineTag = "0d2c7e5a-9a3b-4d57-8c41-6f0e8a1b2c3d"

// space is the engine's path in ZooKeeper.
var space = kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "default"}

// engine returns an application that exceeds its memory limit after some seconds.
// Unless more says otherwise, it asks ZooKeeper to keep its session until it expires,
// as Kyuubi's engines do.
func engine(seconds string, more map[string]string) app {
	c := conf(
		"spark.kubernetes.driver.label.kyuubi-unique-tag", engineTag,
		"spark.kyuubi.ha.engine.ref.id", engineTag,
		"spark.kyuubi.ha.namespace", space.Path(),
		"spark.driver.defaultJavaOptions", "-XX:MaxDirectMemorySize=4g")
	for key, value := range more {
		c[key] = value
	}
	return app{class: "org.apache.kyuubi.engine.spark.SparkSQLEngine", args: []string{seconds}, variant: image.Engine, conf: c, driver: shortGrace}
}

// hasty is a session timeout that ends before the liveness probe gives up, as Kyuubi's
// does with the default probes.
var hasty = conf("spark.kyuubi.ha.zookeeper.session.timeout", "4000")

var releaseStories = []release{
	{
		story: story{name: "release-oom", why: "the kernel ends an engine: its registration goes at once, its sessions when their clients had time to read the error; a new engine stays", app: engine("40", nil), ci: newest, host: true},
		mark:  annotations.Deregistered,
	},
	{
		story: story{name: "release-hung", why: "an engine hangs, its ZooKeeper session expires, and its liveness probe ends it: what was seen while it ran is the proof to close its sessions", app: engine("600", fast(hasty)), host: true},
		dies:  func(t *testing.T, r *run) { freeze(t, r.driverPod(t)) }, mark: annotations.Expired,
	},
	{
		story: story{name: "release-term", why: "the same for an engine that gets SIGTERM and deletes its registration itself", app: engine("600", nil), host: true},
		dies: func(t *testing.T, r *run) {
			if err := signalJVM(r.driverPod(t), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		},
		mark: annotations.Expired,
	},
	{story: story{name: "no-release", why: "without a releaser the registration goes when its session expires, and the sessions stay", app: engine("40", nil), host: true}},
}

func TestRelease(t *testing.T) {
	for _, s := range releaseStories {
		s.run(t, func(t *testing.T, version string) { s.test(t, version) })
	}
}

const (
	expiry = time.Minute     // of an engine's session with ZooKeeper; Kyuubi's default
	kept   = 5 * time.Second // sessions of a dead engine
)

func (s release) test(t *testing.T, version string) {
	zookeeper, err := cluster.StartZooKeeper(t.Context(), theLab.HostIP(), t.TempDir(), os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer zookeeper.Stop()
	tree := connect(t, zookeeper)
	var urls []string
	var servers []*kyuubitest.Server
	for range 2 {
		server := &kyuubitest.Server{}
		served := httptest.NewServer(server)
		defer served.Close()
		servers, urls = append(servers, server), append(urls, served.URL)
	}

	s.app.conf = maps.Clone(s.app.conf)
	s.app.conf["spark.kyuubi.ha.addresses"] = zookeeper.Address
	r := submit(t, s.name, version, s.app, true)
	r.untilLog(t, "CONTEXT")
	own := r.driverPod(t).Labels[spark.ApplicationLabel]
	freshNode, err := kyuubitest.Register(tree, space, strings.Replace(engineTag, "0d", "1d", 1), "spark-fresh", "10.9.9.9:40000")
	if err != nil {
		t.Fatal(err)
	}
	// registered reports whether an application has its node.
	registered := func(application string) (yes bool) {
		eventually.Succeeds(t, "ZooKeeper answers", func(context.Context) error {
			nodes, err := tree.Children(space.Path())
			yes = slices.ContainsFunc(nodes, func(node string) bool { return strings.Contains(node, "kyuubi.engine.id="+application+";") })
			return err
		})
		return yes
	}
	if !registered(own) {
		t.Fatal("the engine has not registered")
	}
	var early atomic.Int32 // sessions that were closed while the node was there
	for i, server := range servers {
		server.Open(kyuubitest.Session{Identifier: fmt.Sprintf("%d%s", i, engineTag[1:]), User: "alice", SessionType: "INTERACTIVE", EngineID: own})
		server.Open(kyuubitest.Session{Identifier: fmt.Sprintf("%d%s", i+2, engineTag[1:]), User: "alice", SessionType: "INTERACTIVE", EngineID: "spark-fresh"})
		server.Fail(func(w http.ResponseWriter, request *http.Request) http.ResponseWriter {
			if request.Method == http.MethodDelete && registered(own) {
				early.Add(1)
			}
			return w
		})
	}
	if s.mark != "" {
		s.startReleaser(t, r, zookeeper, urls)
	}
	if s.dies != nil {
		s.dies(t, r)
	}
	r.until(t, "the engine is dead", func(h *lab.History) bool { return h.Driver().Terminated() != nil })
	reported := time.Now()
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
	eventually.Succeeds(t, "the node is gone", func(context.Context) error {
		if registered(own) {
			return errors.New("it is there")
		}
		return nil
	})
	gone := time.Since(reported)
	if s.mark == "" {
		if sessions(own) != 2 || gone < expiry/2 {
			t.Errorf("without a releaser the node went after %s, and %d sessions are open", gone, sessions(own))
		}
		theTable.add(t, s.name, r, fmt.Sprintf("registration gone after %.1f s; sessions stay", gone.Seconds()))
		return
	}
	eventually.Succeeds(t, "its sessions are closed", func(context.Context) error {
		if n := sessions(own); n > 0 {
			return fmt.Errorf("%d sessions are open", n)
		}
		return nil
	})
	closed := time.Since(reported)
	r.until(t, "the driver is marked", func(h *lab.History) bool { return h.Driver().Last.Annotations[annotations.Released] != "" })
	if mark := annotations.ReadReleaseMark(r.driverPod(t).Annotations[annotations.Released]); mark.Registration != s.mark || mark.Sessions != 2 {
		t.Errorf("the mark is %+v, and not of %s", mark, s.mark)
	}
	if early.Load() > 0 {
		t.Errorf("%d sessions were closed while the engine was registered", early.Load())
	}
	if gone > expiry/2 {
		t.Errorf("the node went after %s: by the end of its session, and not by the release", gone)
	}
	if closed < kept {
		t.Errorf("the sessions were closed after %s: their clients have not had the time to read the error", closed)
	}
	if !registered("spark-fresh") || sessions("spark-fresh") != 2 {
		t.Errorf("the fresh engine was touched: %s", freshNode)
	}
	theTable.add(t, s.name, r, fmt.Sprintf("registration gone after %.1f s, sessions after %.1f s", gone.Seconds(), closed.Seconds()))
}

// startReleaser starts the releaser and waits until it knows that the engine is
// registered.
func (s release) startReleaser(t *testing.T, r *run, zookeeper *cluster.ZooKeeper, urls []string) {
	t.Helper()
	log, stop, err := theLab.StartReleaser(t.Context(), fmt.Sprintf("namespaces: [%s]\nzookeeper: {servers: [%q]}\nservers: {urls: [%q, %q]}\nkeepSessionsSeconds: %d\n",
		r.Namespace, zookeeper.Address, urls[0], urls[1], int(kept.Seconds())), r.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Log(err)
		}
	})
	eventually.Succeeds(t, "the releaser has seen the registration", func(context.Context) error {
		text, err := os.ReadFile(log)
		if err == nil && !bytes.Contains(text, []byte(`"registered":1,`)) {
			err = errors.New("it has not")
		}
		return err
	})
}

// connect connects to a ZooKeeper until the test ends.
func connect(t *testing.T, z *cluster.ZooKeeper) kyuubitest.Registry {
	t.Helper()
	conn, _, err := zk.Connect([]string{z.Address}, expiry, zk.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return kyuubitest.ZooKeeper(conn)
}
