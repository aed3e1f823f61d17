package releaser

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

// An engine dies while a new one of the same user is already registered. The dead
// engine's node is deleted and its sessions are closed; the new engine does not notice.
func TestReleased(t *testing.T) {
	startReleaser(t, config(credentials(t, "secret")))
	dead, fresh := newEngine(t).register(), newEngine(t).register()
	var early []string // sessions that were closed while the node was there
	for _, s := range servers {
		s.Fail(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			if r.Method == http.MethodDelete && dead.registered() {
				early = append(early, r.URL.Path)
			}
			return w
		})
		defer s.Fail(nil)
	}
	dead.die()
	if dead.mark() != "" || !dead.registered() {
		t.Error("released without a record")
	}
	dead.recorded()
	eventually.True(t, "marked", func() bool { return dead.mark() != "" })
	if dead.registered() || dead.sessions() != 0 || len(early) > 0 {
		t.Errorf("registered: %t, sessions: %d, closed too early: %q", dead.registered(), dead.sessions(), early)
	}
	if !fresh.registered() || fresh.sessions() != 2 {
		t.Errorf("the fresh engine: registered: %t, sessions: %d", fresh.registered(), fresh.sessions())
	}
	var mark annotations.ReleaseMark
	if err := json.Unmarshal([]byte(dead.mark()), &mark); err != nil || mark.Registration != annotations.Deregistered || mark.Sessions != 2 {
		t.Errorf("%s %v", dead.mark(), err)
	}
	if !slices.Equal(dead.events(), []string{"EngineReleased"}) {
		t.Error(dead.events())
	}
	eventually.True(t, "the journal is empty", func() bool { return len(journal(t)) == 0 })
}

func journal(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, shard := range journals(t) {
		maps.Copy(all, shard.Data)
	}
	return all
}

// journals returns the ConfigMaps of the journal.
func journals(t *testing.T) (all []corev1.ConfigMap) {
	t.Helper()
	list, err := api.CoreV1().ConfigMaps("spark-vitals").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Items {
		if regexp.MustCompile(`^spark-vitals-releaser(-\d)?$`).MatchString(c.Name) {
			all = append(all, c)
		}
	}
	return all
}

// The releaser is killed between the two steps, and the pod is deleted meanwhile. The
// next releaser closes the sessions all the same.
func TestKilledBetween(t *testing.T) {
	configuration := config(credentials(t, "secret"))
	r := startReleaser(t, configuration)
	for _, s := range servers {
		s.Fail(kyuubitest.Hang)
		defer s.Fail(nil)
	}
	dead := newEngine(t).register().die().recorded()
	eventually.True(t, "deregistered", func() bool { return !dead.registered() })
	r.Kill()
	if err := api.CoreV1().Pods("spark").Delete(t.Context(), dead.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.Fail(nil)
	}
	if dead.sessions() != 2 || len(journal(t)) != 1 {
		t.Fatalf("%d sessions, journal %v", dead.sessions(), journal(t))
	}
	startReleaser(t, configuration)
	eventually.True(t, "closed", func() bool { return dead.sessions() == 0 })
	eventually.True(t, "the journal is empty", func() bool { return len(journal(t)) == 0 })
}

// ZooKeeper is down or hangs when the engine dies. Once it is back, the node is
// deleted.
func TestZooKeeperAway(t *testing.T) {
	startReleaser(t, config(credentials(t, "secret")))
	dead := newEngine(t).register()
	zookeeper.Stop()
	dead.die().recorded()
	eventually.True(t, "the releaser was refused", func() bool { return tried(t, dead) })
	if err := zookeeper.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), `"deregistered","sessions":2`) })

	dead = newEngine(t).register()
	if err := zookeeper.Freeze(true); err != nil {
		t.Fatal(err)
	}
	dead.die().recorded()
	eventually.True(t, "the releaser gave up", func() bool { return tried(t, dead) })
	if err := zookeeper.Freeze(false); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), `"deregistered","sessions":2`) })
}

// tried reports whether the releaser's log has a failed try for the engine.
func tried(t *testing.T, e *engine) bool { return logged(t, "release failed", e.pod.Name) }

// logged reports whether a line of the releaser's log has all these words.
func logged(t *testing.T, words ...string) bool {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(controlPlane.Dir, strings.ToLower(t.Name())+".log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return true
		}
	}
	return false
}

// The control: without a releaser the node exists until its session expires, and the
// sessions stay. A releaser that starts later has no proof and closes none.
func TestExpired(t *testing.T) {
	dead := newEngine(t).register()
	dead.die().recorded()
	if !dead.registered() {
		t.Error("gone at once")
	}
	dead.disconnects() // the same for ZooKeeper as the end of the session
	eventually.True(t, "expired", func() bool { return !dead.registered() })
	startReleaser(t, config(credentials(t, "secret")))
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), "not-registered") })
	if dead.sessions() != 2 || len(dead.events()) > 0 {
		t.Errorf("%d sessions, %q", dead.sessions(), dead.events())
	}
}

// Sessions are kept for a time after the deregistration, even if the process is killed
// meanwhile. The driver is marked when they are closed.
func TestKept(t *testing.T) {
	configuration := strings.Replace(config(credentials(t, "secret")), "keepSessionsSeconds: 0", "keepSessionsSeconds: 20", 1)
	r := startReleaser(t, configuration)
	dead := newEngine(t).register().die().recorded()
	eventually.True(t, "the Event", func() bool { return slices.Equal(dead.events(), []string{"EngineReleased"}) })
	deregistered := time.Now()
	if dead.registered() || dead.sessions() != 2 || dead.mark() != "" || len(journal(t)) != 1 {
		t.Errorf("registered: %t, %d sessions, mark %q, journal %v", dead.registered(), dead.sessions(), dead.mark(), journal(t))
	}
	r.Kill()
	startReleaser(t, configuration)
	eventually.True(t, "closed", func() bool { return dead.sessions() == 0 })
	if kept := time.Since(deregistered); kept < 15*time.Second {
		t.Errorf("closed after %s", kept)
	}
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), `"deregistered","sessions":2`) })
	if !slices.Equal(dead.events(), []string{"EngineReleased"}) {
		t.Error(dead.events())
	}
	eventually.True(t, "the journal is empty", func() bool { return len(journal(t)) == 0 })
}

// A frozen engine is no longer registered when it is killed. What the releaser saw
// while the engine ran is the proof, even after the releaser was killed.
func TestFrozen(t *testing.T) {
	frozen := newEngine(t).register()
	configuration := config(credentials(t, "secret"))
	r := startReleaser(t, configuration)
	eventually.True(t, "looked at", func() bool { return logged(t, "looked at") })
	frozen.disconnects()
	eventually.True(t, "written down", func() bool { return journal(t)[string(frozen.pod.UID)+".life"] != "" })
	r.Kill()
	startReleaser(t, configuration)
	if frozen.sessions() != 2 {
		t.Error("sessions of an engine that runs are closed")
	}
	frozen.die().recorded()
	eventually.True(t, "marked", func() bool { return strings.Contains(frozen.mark(), `"expired","sessions":2`) })
	eventually.True(t, "the journal is empty", func() bool { return len(journal(t)) == 0 })
}

// A drained engine deletes its registration at once and ends seconds later. No recorder
// has to write its death.
func TestDrained(t *testing.T) {
	drained := newEngine(t, func(p *corev1.Pod) { p.Spec.NodeName = "node" }).register()
	startReleaser(t, config(credentials(t, "secret")))
	eventually.True(t, "looked at", func() bool { return logged(t, "looked at") })
	if err := api.CoreV1().Pods("spark").Delete(t.Context(), drained.pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	drained.disconnects()
	now, err := api.CoreV1().Pods("spark").Get(t.Context(), drained.pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	drained.pod = now
	drained.die()
	eventually.True(t, "marked", func() bool { return strings.Contains(drained.mark(), `"expired","sessions":2`) })
}

// A full journal does not keep users from reconnecting.
func TestJournalIsFull(t *testing.T) {
	for _, shard := range journals(t) {
		shard.Data = map[string]string{"full": strings.Repeat("x", 1<<20-100)}
		if _, err := api.CoreV1().ConfigMaps(shard.Namespace).Update(t.Context(), &shard, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_, _ = api.CoreV1().ConfigMaps(shard.Namespace).Patch(context.WithoutCancel(t.Context()), shard.Name, types.MergePatchType, []byte(`{"data":null}`), metav1.PatchOptions{})
		}()
	}
	startReleaser(t, config(credentials(t, "secret")))
	dead := newEngine(t).register().die().recorded()
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), `"deregistered","sessions":2`) })
	if !logged(t, "the journal is full") {
		t.Error("no Event says that nothing was written down")
	}
}

// A wrong password is reported once on the driver, with what to do. Once the Secret is
// corrected, the release continues.
func TestSecretCorrected(t *testing.T) {
	dir := credentials(t, "wrong")
	startReleaser(t, config(dir))
	dead := newEngine(t).register().die().recorded()
	eventually.True(t, "the Event", func() bool { return slices.Contains(dead.events(), "CredentialsRefused") })
	if !slices.Contains(dead.events(), "EngineReleased") {
		t.Error("no Event says that it is deregistered")
	}
	if dead.registered() || dead.sessions() != 2 {
		t.Errorf("registered: %t, sessions: %d", dead.registered(), dead.sessions())
	}
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "marked", func() bool { return strings.Contains(dead.mark(), `"sessions":2`) })
}

// A user who may create pods can forge these: nothing is released, and the releaser
// calls only the configured ZooKeeper.
func TestForged(t *testing.T) {
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	dialled := make(chan string, 1)
	go func() {
		if conn, err := foreign.Accept(); err == nil {
			dialled <- conn.RemoteAddr().String()
		}
	}()
	startReleaser(t, config(credentials(t, "secret")))
	victim := newEngine(t).register()
	claim := func(tag, app string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Labels["kyuubi-unique-tag"], p.Labels["spark-app-selector"] = tag, app
			p.Spec.Volumes = []corev1.Volume{{Name: "spark-conf-volume-driver", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "forged"}}}}}
		}
	}
	if _, err := api.CoreV1().ConfigMaps("spark").Create(t.Context(), &corev1.ConfigMap{ // a copy of the victim's, with another ZooKeeper
		ObjectMeta: metav1.ObjectMeta{Name: "forged"},
		Data:       map[string]string{"spark.properties": "spark.kyuubi.ha.addresses=" + foreign.Addr().String() + "\nspark.kyuubi.ha.namespace=" + filepath.Dir(victim.node) + "\nspark.kyuubi.ha.engine.ref.id=" + victim.tag + "\n"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	own := "feedfeed-0000-4000-8000-000000000000"
	forged := []*engine{
		newEngine(t, claim(victim.tag, victim.app)),
		newEngine(t, claim(victim.tag, "spark-own")),
		newEngine(t, claim(own, victim.app)),
		newEngine(t, claim("", victim.app)),
		newEngine(t, claim(own, "")),
		newEngine(t, claim(victim.tag, victim.app), func(p *corev1.Pod) { p.Namespace = "strangers" }),
		newEngine(t, claim(victim.tag, victim.app), func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		newEngine(t, claim(own, "spark-own")),
	}
	for _, e := range forged {
		e.pod.Status.PodIP, e.pod.Status.PodIPs = victim.pod.Status.PodIP, victim.pod.Status.PodIPs // an address that was given away again
		e.die().recorded()
	}
	last := newEngine(t).register().die().recorded() // the loop has come past them
	eventually.True(t, "the true one is released", func() bool { return last.mark() != "" })
	eventually.True(t, "the forged ones are reported", func() bool {
		return slices.Equal(forged[0].events(), []string{"NotProven"}) && slices.Equal(forged[1].events(), []string{"NotProven"}) && slices.Equal(forged[2].events(), []string{"NotProven"})
	})
	if !victim.registered() || victim.sessions() != 2 || victim.mark() != "" {
		t.Errorf("the victim: registered: %t, sessions: %d", victim.registered(), victim.sessions())
	}
	select {
	case who := <-dialled:
		t.Error("the foreign ZooKeeper was dialled by", who)
	default:
	}
}

// The releaser's rights do not let it change what a pod runs, or read Secrets.
func TestRights(t *testing.T) {
	e := newEngine(t)
	as, err := controlPlane.As(t.Context(), "spark-vitals", "spark-vitals-releaser")
	if err != nil {
		t.Fatal(err)
	}
	limited := clientFor(t, as)
	if _, err := limited.DiscoveryV1().EndpointSlices("kyuubi").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	for what, try := range map[string]func() error{
		"patch a pod": func() error {
			_, err := limited.CoreV1().Pods("spark").Patch(t.Context(), e.pod.Name, "application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
			return err
		},
		"delete a pod": func() error {
			return limited.CoreV1().Pods("spark").Delete(t.Context(), e.pod.Name, metav1.DeleteOptions{})
		},
		"read an engine's ConfigMaps": func() error {
			_, err := limited.CoreV1().ConfigMaps("spark").List(t.Context(), metav1.ListOptions{})
			return err
		},
		"read another ConfigMap": func() error {
			_, err := limited.CoreV1().ConfigMaps("spark-vitals").Get(t.Context(), "other", metav1.GetOptions{})
			return err
		},
		"read Secrets": func() error {
			_, err := limited.CoreV1().Secrets("spark-vitals").List(t.Context(), metav1.ListOptions{})
			return err
		},
		"read pods elsewhere": func() error {
			_, err := limited.CoreV1().Pods("strangers").List(t.Context(), metav1.ListOptions{})
			return err
		},
	} {
		if err := try(); !forbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
