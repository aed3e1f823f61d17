package webhook

import (
	"net"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections of one listener: an API server has at most 25 idle ones, and
// one for each of the calls that it makes at a time (200 at most, unless
// --max-mutating-requests-inflight says more).
const maxConnections = 1000

// connections bounds how many are open at a time. One too many is closed at
// once, so that the API server goes on without waiting for its timeout.
type connections struct {
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

func newConnections(registry prometheus.Registerer) *connections {
	c := &connections{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spark_vitals_connections",
			Help: "Open connections, by what is served on them: reviews, metrics, health.",
		}, []string{"endpoint"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_connections_refused_total",
			Help: "Connections that were closed at once, because too many were open.",
		}, []string{"endpoint"}),
	}
	registry.MustRegister(c.open, c.refused)
	return c
}

// of an endpoint, for its http.Server to tell of each change.
func (c *connections) of(endpoint string) func(net.Conn, http.ConnState) {
	open, refused := c.open.WithLabelValues(endpoint), c.refused.WithLabelValues(endpoint)
	var n atomic.Int64
	return func(connection net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Inc()
			if n.Add(1) > maxConnections {
				refused.Inc()
				_ = connection.Close()
			}
		case http.StateClosed: // also after it was refused
			open.Dec()
			n.Add(-1)
		default:
		}
	}
}
