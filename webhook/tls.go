package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
)

// certificates are the certificates that are served. They are read again every few
// seconds, and not watched: a node with many pods may have no inotify instance left.
type certificates struct {
	dir     string
	current atomic.Pointer[tls.Certificate]
	errors  prometheus.Counter
	log     *slog.Logger
}

const readEvery = 5 * time.Second

// readCertificates reads them for the first time.
func readCertificates(dir string, registry prometheus.Registerer, log *slog.Logger) (*certificates, error) {
	c := &certificates{dir: dir, log: log, errors: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_certificate_read_errors_total",
		Help: "Failed reads of the certificate from disk; the webhook continues with the previous one.",
	})}
	registry.MustRegister(c.errors, c.expiry())
	return c, c.read()
}

func (c *certificates) read() error {
	read, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "tls.crt"), filepath.Join(c.dir, "tls.key"))
	if err != nil {
		return fmt.Errorf("reading tls.crt and tls.key from --cert-dir %s: %w", c.dir, err)
	}
	if before := c.current.Swap(&read); before == nil || !before.Leaf.Equal(read.Leaf) {
		c.log.Info("serving a certificate", "until", read.Leaf.NotAfter)
	}
	return nil
}

// keepReading reads them again until the context ends. It logs an error if it is a new
// one, and once a minute.
func (c *certificates) keepReading(ctx context.Context) error {
	var logged string
	var when time.Time
	wait.UntilWithContext(ctx, func(context.Context) {
		err := c.read()
		if err == nil {
			logged = ""
			return
		}
		c.errors.Inc()
		if err.Error() != logged || time.Since(when) >= time.Minute {
			logged, when = err.Error(), time.Now()
			c.log.Error("serving the previous certificate", "error", err)
		}
	}, readEvery)
	return nil
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// expiry is a metric because an expired certificate fails silently: the API server
// cannot call, and with failurePolicy Ignore it continues without the webhook.
func (c *certificates) expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_certificate_expiry_timestamp_seconds",
		Help: "When the serving certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(c.current.Load().Leaf.NotAfter.Unix()) })
}

// What ends a handshake: a caller that gave a reason, or anything else.
const (
	byCaller = "caller"
	byOther  = "other"
)

func newHandshakeErrors(registry prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spark_vitals_tls_handshake_errors_total",
		Help: "Failed TLS handshakes: by the caller, which refuses the certificate, or for another reason, such as a connection without data. If the first rise and no requests come, the API server does not trust the certificate: check caBundle.",
	}, []string{"by"})
	registry.MustRegister(c)
	for _, by := range []string{byCaller, byOther} {
		c.WithLabelValues(by) // starts at zero: see beginAtZero
	}
	return c
}

// serverErrors gets what http.Server logs about connections. A client that does not
// trust the certificate is most often the API server with a wrong caBundle, and nothing
// else would show it. So this is logged once a minute. Other failed handshakes come
// from port scans and from load balancers that check the port.
type serverErrors struct {
	count  *prometheus.CounterVec
	log    *slog.Logger
	logged atomic.Int64 // when, in Unix seconds
}

func (e *serverErrors) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level := slog.LevelError
	switch {
	case bytes.Contains(line, []byte(net.ErrClosed.Error())):
		level = slog.LevelDebug // closed by the webhook itself; see connections
	case bytes.Contains(line, []byte("TLS handshake error")):
		level = slog.LevelDebug
		if !bytes.Contains(line, []byte("remote error: tls")) {
			e.count.WithLabelValues(byOther).Inc()
			break
		}
		e.count.WithLabelValues(byCaller).Inc()
		now, logged := time.Now().Unix(), e.logged.Load()
		if now-logged >= 60 && e.logged.CompareAndSwap(logged, now) {
			level = slog.LevelWarn
			text += "; does the caBundle of the webhook configurations match?"
		}
	}
	e.log.Log(context.Background(), level, text)
	return len(line), nil
}
