package failing

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/webhook"
)

// Whatever the webhook does, a pod is created unchanged and within the timeout. The API
// server counts it, unless the webhook answers "allowed" and counts it itself.
func TestBrokenWebhooks(t *testing.T) {
	const timeout = time.Second // as the chart registers it
	panicked := 0
	registry := prometheus.NewPedanticRegistry()
	withoutPolicy := &webhook.Handler{Metrics: webhook.NewMetrics(registry), Log: slog.New(slog.DiscardHandler)} // its use panics
	panics := webhook.Reviews(map[string]admission.Handler{"/mutate": withoutPolicy.Mutate(policy.Enabled)}, withoutPolicy.Metrics, withoutPolicy.Log)
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	serving := func(handler http.Handler) func(*testing.T, *atomic.Int32) string {
		return func(t *testing.T, calls *atomic.Int32) string { return serve(t, handler, calls) }
	}
	for name, test := range map[string]struct {
		peer   func(*testing.T, *atomic.Int32) (url string)
		missed int
	}{
		"down":        {serving(nil), 1},
		"black-hole":  {blackHole, 1},
		"no-hands":    {shakesNoHands, 1},
		"hangs":       {serving(http.HandlerFunc(hang)), 1},
		"garbage":     {serving(answer("garbage")), 1},
		"empty":       {serving(answer("")), 1},
		"another-uid": {serving(answer(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`)), 1},
		"fails":       {serving(http.NotFoundHandler()), 1},
		"breaks-off":  {serving(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })), 1},
		"panics":      {serving(panics), 0},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			s := register(t, name, test.peer(t, &calls), func(w *admissionregistrationv1.MutatingWebhook) { w.TimeoutSeconds = new(int32(timeout.Seconds())) })
			// The API server takes a moment to know of a registration. What a machine
			// that stalls makes late, or miss its timeout, is tried again.
			eventually.True(t, "called, and in time", func() bool {
				before, called, begun := failedOpen(t), calls.Load(), time.Now()
				injected, err := s.create(t.Context())
				took := time.Since(begun)
				if err != nil || injected {
					t.Errorf("after %s: injected is %v, %v", took, injected, err)
				}
				missed := failedOpen(t) - before
				if missed == 0 && calls.Load() == called {
					return false
				}
				late := took > timeout+time.Second || missed != test.missed && took > timeout
				if late {
					t.Logf("after %s the API server counts %d calls that failed, want %d", took, missed, test.missed)
				} else if missed != test.missed {
					t.Errorf("the API server counts %d calls that failed, want %d", missed, test.missed)
				}
				return !late
			})
			panicked += int(calls.Load()) * (1 - test.missed)
		})
	}
	text, err := testutil.CollectAndFormat(registry, expfmt.TypeTextPlain, "spark_vitals_admission_requests_total")
	counted := fmt.Sprintf(`spark_vitals_admission_requests_total{outcome="panic",path="mutate",resource="pods",role="",rule=""} %d`+"\n", panicked)
	if err != nil || !strings.Contains(string(text), counted) || strings.Count(string(text), "} 0\n") != strings.Count(string(text), "}")-1 {
		t.Errorf("%v\n%s", err, text)
	}
}

// hang waits until the caller has gone. The server notices that only after it has read
// the request.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// serve serves a handler over TLS, with a certificate that the API server trusts.
// Without a handler nothing listens at the address.
func serve(t *testing.T, handler http.Handler, calls *atomic.Int32) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	dir := t.TempDir()
	if err := controlPlane.Authority.Issue(dir, "tls", pkix.Name{CommonName: "broken"}, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	if handler == nil {
		server.Close()
	} else {
		t.Cleanup(server.Close)
	}
	return server.URL
}

// shakesNoHands accepts connections and never answers.
func shakesNoHands(t *testing.T, _ *atomic.Int32) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return "https://" + listener.Addr().String()
}

// blackHole returns an address that does not answer at all, like one behind a firewall:
// a socket with a full queue that nothing accepts from.
func blackHole(t *testing.T, _ *atomic.Int32) (url string) {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for {
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err != nil {
			return "https://" + address
		}
		t.Cleanup(func() { c.Close() })
	}
}
