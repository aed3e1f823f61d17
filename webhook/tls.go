package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

func tlsConfig(certificates *certwatcher.CertWatcher) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: certificates.GetCertificate,
	}
}

// certificateExpiry is exported because an expired certificate is silent: the
// API server cannot call, and with failurePolicy Ignore goes on without.
func certificateExpiry(certificates *certwatcher.CertWatcher) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_certificate_expiry_timestamp_seconds",
		Help: "When the serving certificate expires, in seconds since 1970.",
	}, func() float64 {
		certificate, err := certificates.GetCertificate(nil)
		if err != nil || certificate.Leaf == nil {
			return 0
		}
		return float64(certificate.Leaf.NotAfter.Unix())
	})
}

func newHandshakeErrors() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_tls_handshake_errors_total",
		Help: "TLS handshakes that failed. When these rise and no requests come, the API server does not trust the certificate: look at caBundle.",
	})
}

// serverErrors is where http.Server writes what goes wrong on connections. A
// client that does not trust our certificate is the API server with a wrong
// caBundle, more often than not, and nobody else would say so; it is logged once
// a minute. Other handshakes that fail are port scans.
type serverErrors struct {
	count prometheus.Counter
	log   *slog.Logger
	told  atomic.Int64 // when, in Unix seconds
}

func (e *serverErrors) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level := slog.LevelError
	switch {
	case bytes.Contains(line, []byte(net.ErrClosed.Error())):
		level = slog.LevelDebug // refused by us; see connections
	case bytes.Contains(line, []byte("TLS handshake error")):
		level = slog.LevelDebug
		e.count.Inc()
		now, told := time.Now().Unix(), e.told.Load()
		if bytes.Contains(line, []byte("remote error: tls")) && now-told >= 60 && e.told.CompareAndSwap(told, now) {
			level = slog.LevelWarn
			text += "; does the caBundle of the webhook configurations match?"
		}
	}
	e.log.Log(context.Background(), level, text)
	return len(line), nil
}
