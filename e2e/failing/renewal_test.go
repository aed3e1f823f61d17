package failing

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

func start(t *testing.T, flags ...string) *cluster.Webhook {
	t.Helper()
	w, err := controlPlane.StartWebhook(t.Context(), os.Stderr, append([]string{"--shutdown-delay=3s"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// Two webhooks are replaced one after the other, as by a Deployment with maxSurge 1 and
// maxUnavailable 0, while pods are created. No pod is missed.
func TestRollout(t *testing.T) {
	b := balance(t)
	old := []*cluster.Webhook{start(t), start(t)}
	for _, w := range old {
		b.add(w)
	}
	s := register(t, "rollout", b.url)
	s.seen(t)
	before, pods := failedOpen(t), s.creating(t)
	for range 2 {
		for i := range old {
			pods.more(t, 20)
			renewed := start(t)
			b.add(renewed)
			old[i].Stop()
			old[i] = renewed
		}
	}
	pods.more(t, 20)
	if missed := pods.end(t); missed > 0 || failedOpen(t) != before {
		t.Errorf("%d pods were not injected; the API server counts %d calls that failed", missed, failedOpen(t)-before)
	}
}

// One of two webhooks is killed. Only the calls that were in progress are missed.
func TestKill(t *testing.T) {
	b := balance(t)
	doomed := start(t)
	b.add(doomed)
	b.add(start(t))
	s := register(t, "kill", b.url)
	s.seen(t)
	pods := s.creating(t)
	pods.more(t, 50)
	doomed.Kill()
	pods.more(t, 50)
	if missed := pods.end(t); missed > cluster.Askers {
		t.Errorf("%d pods were not injected; %d were under way", missed, cluster.Askers)
	}
}

// Certificates are replaced on disk as the kubelet replaces those of a Secret, while
// pods are created. No pod is missed, even if the API server, which keeps its
// connections, has to connect anew.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	exchange(t, dir, 0)
	w, b := start(t, "--cert-dir="+dir), balance(t)
	b.add(w)
	s := register(t, "certificates", b.url)
	s.seen(t)
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(controlPlane.Authority.PEM)
	before := failedOpen(t)
	for generation := 1; generation <= 2; generation++ {
		pods := s.creating(t)
		pods.more(t, 20)
		exchange(t, dir, generation)
		eventually.True(t, "serving the new certificate", func() bool {
			c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), &tls.Config{RootCAs: authority})
			if err != nil {
				return false
			}
			defer c.Close()
			return c.ConnectionState().PeerCertificates[0].Subject.CommonName == commonName(generation)
		})
		missed := pods.end(t)
		b.dismiss()
		again := s.creating(t)
		again.more(t, 20)
		if missed += again.end(t); missed > 0 || failedOpen(t) != before {
			t.Errorf("generation %d: %d pods were not injected; the API server counts %d calls that failed", generation, missed, failedOpen(t)-before)
		}
	}
}

func commonName(generation int) string { return fmt.Sprintf("generation-%d", generation) }

// exchange replaces the certificate: the files are links through a folder that is a
// link, and that link is replaced.
func exchange(t *testing.T, dir string, generation int) {
	t.Helper()
	data := filepath.Join(dir, commonName(generation))
	steps := []func() error{
		func() error { return os.Mkdir(data, 0o755) },
		func() error {
			return controlPlane.Authority.Issue(data, "tls", pkix.Name{CommonName: commonName(generation)}, "127.0.0.1")
		},
		func() error { return os.Symlink(data, filepath.Join(dir, "new")) },
		func() error { return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")) },
	}
	if generation == 0 {
		for _, name := range []string{"tls.crt", "tls.key"} {
			steps = append(steps, func() error { return os.Symlink(filepath.Join("data", name), filepath.Join(dir, name)) })
		}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

var idle = flag.Int("idle", 0, "how often to leave the webhook without calls for longer than the API server keeps an idle connection")

// After a time without calls, when one end has closed its idle connections, no pod is
// missed. "make idle" runs this test. (A test of package webhook shows that the webhook
// does not close first.)
func TestIdle(t *testing.T) {
	if *idle == 0 {
		t.Skip("takes 95 s a round; -idle=N for N rounds")
	}
	s := register(t, "idle", start(t).URL)
	s.seen(t)
	before := failedOpen(t)
	for round := range *idle {
		time.Sleep(91*time.Second + time.Duration(round%10)*time.Second) // above client-go's 90 s
		pods := s.creating(t)
		pods.more(t, 20)
		if missed := pods.end(t); missed > 0 || failedOpen(t) != before {
			t.Errorf("round %d: %d pods were not injected", round, missed)
		}
	}
}
