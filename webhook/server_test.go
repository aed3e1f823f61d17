package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	certutil "k8s.io/client-go/util/cert"

	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/policy"
)

// A running server on connections in memory, with its own client. It needs a bubble.
type running struct {
	Config
	sites       map[string]*memorySite // by address
	certificate *x509.Certificate
	stop        context.CancelFunc
	stopped     chan error
	client      *http.Client
}

func run(t *testing.T) *running {
	t.Helper()
	r := &running{
		Config: Config{
			Policy: policy.Default(), CertDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			BindAddress: "reviews:443", MetricsBindAddress: "metrics:80", HealthProbeBindAddress: "health:80",
			ShutdownDelay: 2 * time.Second,
		},
		sites:   map[string]*memorySite{"reviews:443": newMemorySite(), "metrics:80": newMemorySite(), "health:80": newMemorySite()},
		stopped: make(chan error, 1),
	}
	r.listen = func(_ context.Context, _, address string) (net.Listener, error) { return r.sites[address], nil }
	r.certificate = writeCertificate(t, r.CertDir)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.stopped <- Run(ctx, r.Config) }()
	t.Cleanup(func() { stop(); <-r.stopped })
	transport := insecureTransport()
	transport.DialContext = func(_ context.Context, _, address string) (net.Conn, error) { return r.sites[address].dial(), nil }
	r.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	eventually.True(t, "ready", func() bool { return r.status("http://"+r.HealthProbeBindAddress+"/readyz") == http.StatusOK })
	return r
}

func insecureTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

// dial for reviews.
func (r *running) dial(c *tls.Config) (*tls.Conn, error) {
	connection := tls.Client(r.sites[r.BindAddress].dial(), c)
	return connection, connection.Handshake()
}

func (r *running) status(url string) int {
	response, err := r.client.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func writeCertificate(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	certificate, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tls.crt": certificate, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := certutil.ParseCertsPEM(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return parsed[0]
}

const emptyReview = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}}`

func (r *running) review() (*http.Response, error) {
	response, err := r.client.Post("https://"+r.BindAddress+"/mutate", "application/json", strings.NewReader(emptyReview))
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	return response, err
}

// After a signal to stop the server is not ready, serves on for the delay, also
// on new connections, and asks the clients to leave; a review that is under way
// at the end is answered.
func TestDrain(t *testing.T) { synctest.Test(t, testDrain) }

func testDrain(t *testing.T) {
	r := run(t)
	if response, err := r.review(); err != nil || response.Close {
		t.Fatalf("before: %v, closes: %v", err, response.Close)
	}
	begun := time.Now()
	r.stop()
	eventually.True(t, "unready", func() bool {
		return r.status("http://"+r.HealthProbeBindAddress+"/readyz") == http.StatusServiceUnavailable
	})
	if status := r.status("http://" + r.HealthProbeBindAddress + "/healthz"); status != http.StatusOK {
		t.Errorf("healthz says %d while stopping", status)
	}
	r.client.CloseIdleConnections()
	response, err := r.review()
	if err != nil || response.StatusCode != http.StatusOK || !response.Close {
		t.Errorf("while stopping: %v, %+v", err, response)
	}
	underWay := r.beginReview(t)
	eventually.True(t, "closed to new connections", func() bool {
		c, err := r.dial(&tls.Config{InsecureSkipVerify: true})
		c.Close()
		return err != nil
	})
	if served := time.Since(begun); served < r.ShutdownDelay {
		t.Errorf("served for %s after the signal, want %s", served, r.ShutdownDelay)
	}
	if err := underWay(); err != nil {
		t.Errorf("a review under way was lost: %v", err)
	}
	err = <-r.stopped
	r.stopped <- err
	if err != nil {
		t.Errorf("ended with %v", err)
	}
}

// beginReview sends half a review; what it returns sends the rest and reads the
// answer.
func (r *running) beginReview(t *testing.T) (finish func() error) {
	t.Helper()
	c, err := r.dial(&tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	half := len(emptyReview) / 2
	if _, err := fmt.Fprintf(c, "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(emptyReview), emptyReview[:half]); err != nil {
		t.Fatal(err)
	}
	return func() error {
		if _, err := io.WriteString(c, emptyReview[half:]); err != nil {
			return err
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
}

func TestTLS(t *testing.T) { synctest.Test(t, testTLS) }

func testTLS(t *testing.T) {
	r := run(t)
	dial := func(c *tls.Config) (*tls.Conn, error) {
		c.InsecureSkipVerify = true
		connection, err := r.dial(c)
		connection.NetConn().Close() // the handshake is all
		return connection, err
	}
	if _, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is served")
	}
	if c, err := dial(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("HTTP/2 is served, or nothing: %v", err)
	}
	if _, err := dial(&tls.Config{NextProtos: []string{"h2"}}); err == nil {
		t.Error("HTTP/2 is served")
	}
	if err := os.Remove(filepath.Join(r.CertDir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "telling that the certificate cannot be read", func() bool {
		return strings.Contains(r.metrics(t), "spark_vitals_certificate_read_errors_total 1")
	})
	if _, err := r.review(); err != nil {
		t.Errorf("while it cannot be read: %v", err)
	}
	renewed := writeCertificate(t, r.CertDir)
	eventually.True(t, "serving the renewed certificate", func() bool {
		c, err := dial(&tls.Config{})
		return err == nil && c.ConnectionState().PeerCertificates[0].Equal(renewed)
	})
}

// A certificate that cannot be read is logged when it begins, when the reason is
// another, and once a minute.
func TestLogOfUnreadCertificates(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, err := readCertificates(dir, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		go c.keepReading(t.Context())
		logged := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := strings.Count(log.String(), "level=ERROR"); n != want {
				t.Errorf("logged %d times, want %d: %s", n, want, &log)
			}
		}
		logged(0)
		if err := os.Remove(filepath.Join(dir, "tls.crt")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Minute + readEvery)
		logged(3)
		if err := os.WriteFile(filepath.Join(dir, "tls.crt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(readEvery)
		logged(4)
		writeCertificate(t, dir)
		time.Sleep(readEvery)
		logged(4)
		if n := testutil.ToFloat64(c.errors); n != 26 {
			t.Errorf("counted %v times", n)
		}
	})
}

func TestMetricsEndpoint(t *testing.T) { synctest.Test(t, testMetricsEndpoint) }

func testMetricsEndpoint(t *testing.T) {
	r := run(t)
	if c, err := r.dial(&tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}); err == nil {
		c.Close()
		t.Fatal("trusted by nobody, and accepted")
	}
	r.sites[r.BindAddress].dial().Close() // as load balancers do, to see whether somebody listens
	if _, err := r.review(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`spark_vitals_admission_requests_total{outcome="ignored",path="mutate",resource="",role="",rule=""} 1`,
		`spark_vitals_admission_duration_seconds_bucket{code="200",path="mutate",le="0.005"}`,
		fmt.Sprintf("spark_vitals_certificate_expiry_timestamp_seconds %g\n", float64(r.certificate.NotAfter.Unix())),
		`spark_vitals_tls_handshake_errors_total{by="caller"} 1`, // counted when the server comes to it
		`spark_vitals_tls_handshake_errors_total{by="other"} 1`,
		`spark_vitals_connections{endpoint="metrics"} 1`,
		"spark_vitals_certificate_read_errors_total 0",
		"process_resident_memory_bytes ", "go_goroutines ",
		`spark_vitals_admission_duration_seconds_count{code="503",path="audit"} 0`,
	} {
		eventually.True(t, "showing "+want, func() bool { return strings.Contains(r.metrics(t), want) })
	}
	checkMetrics(t, r.metrics(t))
}

// What net/http itself answers, or does not, is counted as begun.
func TestNoRequests(t *testing.T) { synctest.Test(t, testNoRequests) }

func testNoRequests(t *testing.T) {
	r := run(t)
	for i, text := range []string{"no HTTP\r\n\r\n", "POST /mutate HTTP/1.1\r\n\r\n", "POST /mutate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", "POST /mut"} {
		c, err := r.dial(&tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`spark_vitals_requests_begun_total{endpoint="reviews"} %d`, i+1)
		eventually.True(t, "showing "+want, func() bool { return strings.Contains(r.metrics(t), want) })
		c.Close()
	}
	if regexp.MustCompile(`spark_vitals_admission_duration_seconds_count\{.*\} [1-9]`).MatchString(r.metrics(t)) {
		t.Error("answered as reviews")
	}
}

// Names and labels of our metrics follow Prometheus' rules, and docs/operations.md
// says of each what to do when it moves.
func checkMetrics(t *testing.T, served string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(served)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "spark_vitals_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	operations, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range regexp.MustCompile(`(?m)^# TYPE (spark_vitals_\w+)`).FindAllStringSubmatch(served, -1) {
		if !strings.Contains(string(operations), "`"+metric[1]) {
			t.Errorf("docs/operations.md does not explain %s", metric[1])
		}
	}
}

func (r *running) metrics(t *testing.T) string {
	t.Helper()
	response, err := r.client.Get("http://" + r.MetricsBindAddress + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestErrorsOfStarting(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := Config{Policy: policy.Default(), CertDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), BindAddress: "127.0.0.1:0", MetricsBindAddress: "127.0.0.1:0", HealthProbeBindAddress: "127.0.0.1:0"}
	writeCertificate(t, good.CertDir)
	noCertificate, portTaken := good, good
	noCertificate.CertDir = t.TempDir()
	portTaken.BindAddress = taken.Addr().String()
	for want, c := range map[string]Config{"--cert-dir": noCertificate, "--bind-address": portTaken} {
		if err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}
