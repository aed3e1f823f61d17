package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/policy"
)

// Config is the configuration of a webhook server.
type Config struct {
	Policy *policy.Policy
	Deny   bool // see [Handler]
	// WatchDrivers makes the plans of applications known; see [Handler.Remedies]. It is nil
	// if the webhook does not call the API server.
	WatchDrivers func(prometheus.Registerer) (Drivers, error)
	// CertDir has tls.crt and tls.key. They are read again when they change.
	CertDir string
	// The addresses to listen on are "host:port".
	BindAddress, MetricsBindAddress, HealthProbeBindAddress string
	// ShutdownDelay is how long the server continues to serve after it was asked to
	// stop. A Service needs some time to forget the address of a pod.
	ShutdownDelay time.Duration
	Log           *slog.Logger

	listen func(ctx context.Context, network, address string) (net.Listener, error) // nil outside of tests
}

// client-go keeps an idle connection for 90 s. If the server closed it first, a review
// sent at that moment would be lost, because a POST is not sent a second time. So the
// server waits longer.
const (
	idleTimeout   = 150 * time.Second
	readTimeout   = 10 * time.Second            // more than the API server's timeoutSeconds
	writeTimeout  = readTimeout + 5*time.Second // both begin with the header
	finishTimeout = 10 * time.Second            // for answers in progress after ShutdownDelay
	maxHeader     = 64 << 10
)

// Drivers are the plans of all drivers, and the watch that knows them.
type Drivers interface {
	Remedies
	Run(context.Context)
}

type server struct {
	Config
	ready atomic.Bool // serving, and not about to stop
}

// Run serves until the context ends, and then until it can stop without losing a
// review.
func Run(ctx context.Context, c Config) error {
	s := &server{Config: c}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	certificates, err := readCertificates(c.CertDir, registry, c.Log)
	if err != nil {
		return err
	}
	handshakeErrors := newHandshakeErrors(registry)
	handler := &Handler{Policy: c.Policy, Metrics: NewMetrics(registry), Log: c.Log, Deny: c.Deny}

	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if c.WatchDrivers != nil {
		if drivers, err := c.WatchDrivers(registry); err != nil { // the webhook serves without it
			c.Log.Error("drivers cannot be watched, so no executor is remedied", "error", err)
		} else {
			handler.Remedies = drivers
			go drivers.Run(watching)
		}
	}
	open := newConnections(registry)
	endpoints := []endpoint{
		{flag: "health-probe-bind-address", address: c.HealthProbeBindAddress, connections: open.of("health"), handler: s.health()},
		{flag: "metrics-bind-address", address: c.MetricsBindAddress, connections: open.of("metrics"), handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{})},
		{flag: "bind-address", address: c.BindAddress, connections: open.of("reviews"), handler: s.reviews(handler), tls: certificates.config()},
	}
	for i := range endpoints {
		if err := endpoints[i].listen(ctx, c.listen); err != nil {
			return err
		}
	}
	tasks, serving := errgroup.WithContext(context.WithoutCancel(ctx))
	tasks.Go(func() error { return certificates.keepReading(serving) })
	errorLog := log.New(&serverErrors{count: handshakeErrors, log: c.Log}, "", 0)
	for _, e := range endpoints {
		tasks.Go(func() error { return e.serve(serving, errorLog) })
	}
	s.ready.Store(true)
	c.Log.Info("serving", "address", c.BindAddress, "rules", len(c.Policy.Rules()), "deny", c.Deny)

	tasks.Go(func() error { return s.stopAfter(ctx, serving) })
	if err := tasks.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

var errStopped = errors.New("stopped as asked")

// stopAfter waits until the context ends and the Service has had time to notice. Until
// then answers have "Connection: close", so the API server sends its next call to
// another replica.
func (s *server) stopAfter(ctx, serving context.Context) error {
	select {
	case <-serving.Done():
		return nil
	case <-ctx.Done():
	}
	s.ready.Store(false)
	s.Log.Info("stopping", "in", s.ShutdownDelay)
	select {
	case <-serving.Done():
	case <-time.After(s.ShutdownDelay):
	}
	return errStopped
}

// endpoint is an address and what it serves.
type endpoint struct {
	flag, address string
	connections   *connLimiter
	handler       http.Handler
	tls           *tls.Config  // nil for plain HTTP
	listener      net.Listener // open from listen on
}

func (e *endpoint) listen(ctx context.Context, listen func(context.Context, string, string) (net.Listener, error)) (err error) {
	if listen == nil {
		listen = new(net.ListenConfig).Listen
	}
	if e.listener, err = listen(ctx, "tcp", e.address); err != nil {
		return fmt.Errorf("listening on --%s: %w", e.flag, err)
	}
	return nil
}

func (e *endpoint) serve(ctx context.Context, errorLog *log.Logger) (err error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // only: with HTTP/2 a connection has any number of requests
	server := &http.Server{
		Handler:     e.handler,
		TLSConfig:   e.tls,
		Protocols:   protocols,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: errorLog, ConnContext: e.connections.opened, ConnState: e.connections.changed,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		stopped <- server.Shutdown(ending)
	}()
	if e.tls != nil {
		err = server.ServeTLS(e.listener, "", "")
	} else {
		err = server.Serve(e.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return <-stopped
	}
	return err
}

// reviews serves only HTTP/1.1: the API server speaks nothing else to webhooks.
func (s *server) reviews(h *Handler) http.Handler {
	mux := Reviews(map[string]admission.Handler{
		"/mutate":   h.Mutate(policy.Enabled),
		"/audit":    h.Mutate(policy.Audit),
		"/validate": h.Validate(),
	}, h.Metrics, s.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.ready.Load() {
			w.Header().Set("Connection", "close")
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *server) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "not serving, or about to stop", http.StatusServiceUnavailable)
		}
	})
	return mux
}
