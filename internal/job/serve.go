package job

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Servers serve metrics and health of a job that is not a controller.
type Servers struct {
	Metrics, Health string // addresses, "host:port"
	Registry        *prometheus.Registry
	// Ready returns nil, or why the job is not ready.
	Ready func() error
}

// Serve adds the servers to the tasks, until the context ends. It returns an error if it
// cannot listen on an address.
func (s Servers) Serve(ctx context.Context, tasks *errgroup.Group) error {
	health, metrics := http.NewServeMux(), http.NewServeMux()
	health.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	health.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	metrics.Handle("/metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
	return errors.Join(
		serve(ctx, tasks, "metrics-bind-address", s.Metrics, metrics),
		serve(ctx, tasks, "health-probe-bind-address", s.Health, health),
	)
}

// timeout limits how long a slow client can hold a request.
const timeout = 10 * time.Second

func serve(ctx context.Context, tasks *errgroup.Group, flag, address string, handler http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening on --%s: %w", flag, err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: timeout, WriteTimeout: timeout}
	tasks.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	tasks.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}
