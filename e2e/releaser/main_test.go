// Package releaser tests the releaser on a real API server, with exactly the rights of
// its manifest, and with a real ZooKeeper. Kyuubi is a stand-in that is tested against
// recorded answers of a real one.
package releaser

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

var (
	controlPlane *cluster.ControlPlane
	api          kubernetes.Interface
	zookeeper    *cluster.ZooKeeper
	servers      []*kyuubitest.Server
	registry     kyuubitest.Registry
	urls         []string
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	err := cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) (err error) {
		controlPlane, api = c, c.Client
		if zookeeper, err = cluster.StartZooKeeper(ctx, "127.0.0.1", c.Dir, os.Stderr); err != nil {
			return err
		}
		defer func() { zookeeper.Stop() }()
		for _, namespace := range []string{"spark-vitals", "spark", "kyuubi", "strangers"} {
			if err := c.Namespace(ctx, namespace, nil); err != nil {
				return err
			}
		}
		if err := c.Apply(ctx, "gateway/releaser/manifest.yaml"); err != nil {
			return err
		}
		var stop func()
		if registry, stop, err = connect(30 * time.Second); err != nil {
			return err
		}
		defer stop()
		for range 2 {
			s := &kyuubitest.Server{Passwords: map[string]string{"ops": "secret"}, Administrators: []string{"ops"}}
			served := httptest.NewServer(s)
			defer served.Close()
			servers, urls = append(servers, s), append(urls, served.URL)
		}
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// connect connects to ZooKeeper as an engine does. Its registrations exist until stop,
// or until the session expires if the connection breaks.
func connect(session time.Duration) (r kyuubitest.Registry, stop func(), err error) {
	conn, _, err := zk.Connect([]string{zookeeper.Address}, session, zk.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		return nil, nil, err
	}
	return kyuubitest.ZooKeeper(conn), conn.Close, nil
}

// config returns the releaser's configuration, with the URLs of the servers.
func config(dir string) string {
	return fmt.Sprintf(`
namespaces: [spark]
zookeeper: {servers: [%q]}
servers:
  urls: [%q, %q]
  basic: {userFile: %s/user, passwordFile: %s/password}
  timeoutSeconds: 20
keepSessionsSeconds: 0
`, zookeeper.Address, urls[0], urls[1], dir, dir)
}

// credentials writes credentials to a folder.
func credentials(t *testing.T, password string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"user": "ops", "password": password} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func startReleaser(t *testing.T, config string) *cluster.Leader {
	t.Helper()
	r, err := controlPlane.StartReleaser(t.Context(), strings.ToLower(t.Name()), config, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(r.Log)
			t.Logf("%s", log)
		}
	})
	return r
}

// engine is a Spark driver with its registration and a session on each server.
type engine struct {
	t           *testing.T
	pod         *corev1.Pod
	tag, app    string
	node        string
	disconnects func()
}

var engines int

// newEngine makes an engine that runs, in the namespace spark unless tweak changes it.
func newEngine(t *testing.T, tweak ...func(*corev1.Pod)) *engine {
	t.Helper()
	engines++
	e := &engine{t: t, tag: fmt.Sprintf("%08x-0000-4000-8000-%012x", engines, time.Now().UnixNano()&0xffffffffffff), app: fmt.Sprintf("spark-%032x", engines)}
	pod := kyuubitest.DriverOOMKilled()
	status := pod.Status
	e.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "spark", Name: fmt.Sprintf("kyuubi-%s-driver", e.tag), Labels: pod.Labels}, Spec: pod.Spec}
	e.pod.Labels["kyuubi-unique-tag"], e.pod.Labels["spark-app-selector"] = e.tag, e.app
	e.pod.Spec.Volumes, e.pod.Spec.Containers[0].VolumeMounts = nil, nil
	e.pod.Spec.ServiceAccountName, e.pod.Spec.DeprecatedServiceAccount = "spark", ""
	status.PodIP = fmt.Sprintf("10.1.%d.%d", engines/250, engines%250+1)
	status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, f := range tweak {
		f(e.pod)
	}
	for i, variable := range e.pod.Spec.Containers[0].Env {
		if variable.Name == "SPARK_APPLICATION_ID" {
			e.pod.Spec.Containers[0].Env[i].Value = e.pod.Labels["spark-app-selector"]
		}
	}
	var err error
	if e.pod, err = api.CoreV1().Pods(e.pod.Namespace).Create(t.Context(), e.pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.pod.Status = status
	e.updateStatus()
	return e
}

func (e *engine) updateStatus() {
	e.t.Helper()
	for i, variable := range e.pod.Spec.Containers[0].Env {
		if variable.Name == "SPARK_APPLICATION_ID" {
			e.pod.Spec.Containers[0].Env[i].Value = e.pod.Labels["spark-app-selector"]
		}
	}
	var err error
	if e.pod, err = api.CoreV1().Pods(e.pod.Namespace).UpdateStatus(e.t.Context(), e.pod, metav1.UpdateOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

// register registers the engine with its own connection, and opens its sessions.
func (e *engine) register() *engine {
	e.t.Helper()
	registry, stop, err := connect(time.Minute) // longer than this process may be stopped for
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(stop)
	e.disconnects = stop
	space := kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "default"}
	if e.node, err = kyuubitest.Register(registry, space, e.tag, e.app, e.pod.Status.PodIP+":44057"); err != nil {
		e.t.Fatal(err)
	}
	for i, s := range servers {
		s.Open(kyuubitest.Session{Identifier: strconv.Itoa(i) + e.tag[1:], User: "alice", SessionType: "INTERACTIVE", EngineID: e.app})
	}
	return e
}

// die writes the status of an ended container as the kubelet does, before the phase
// changes.
func (e *engine) die() *engine {
	e.t.Helper()
	for _, s := range servers {
		s.Engine(e.app, kyuubitest.Dead)
	}
	e.pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", FinishedAt: metav1.Now()}}
	e.updateStatus()
	return e
}

// recorded writes the record's state as the recorder does.
func (e *engine) recorded() *engine {
	e.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"KILLED",%q:"DriverOOMKilled"}}}`, annotations.State, annotations.Reason)
	if _, err := api.CoreV1().Pods(e.pod.Namespace).Patch(e.t.Context(), e.pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		e.t.Fatal(err)
	}
	return e
}

func (e *engine) registered() bool {
	e.t.Helper()
	nodes, err := registry.Children(filepath.Dir(e.node))
	if err != nil {
		e.t.Fatal(err)
	}
	for _, node := range nodes {
		if node == filepath.Base(e.node) {
			return true
		}
	}
	return false
}

func (e *engine) sessions() (n int) {
	for _, s := range servers {
		for _, session := range s.Sessions() {
			if session.EngineID == e.app {
				n++
			}
		}
	}
	return n
}

// mark returns the mark of the release on the pod, or "".
func (e *engine) mark() string {
	e.t.Helper()
	pod, err := api.CoreV1().Pods(e.pod.Namespace).Get(e.t.Context(), e.pod.Name, metav1.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	return pod.Annotations[annotations.Released]
}

// events returns the reasons of the Events on the pod.
func (e *engine) events() (reasons []string) {
	e.t.Helper()
	list, err := api.CoreV1().Events(e.pod.Namespace).List(e.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(e.pod.UID)})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, event := range list.Items {
		reasons = append(reasons, event.Reason)
	}
	return reasons
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func forbidden(err error) bool { return apierrors.IsForbidden(err) }
