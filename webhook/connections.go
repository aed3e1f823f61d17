package webhook

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections is the limit of one listener. An API server has at most 25 idle
// connections, and one for each call that it makes at a time (at most 200, unless
// --max-mutating-requests-inflight says more).
const maxConnections = 1000

// connections are the metrics of connections, by endpoint.
type connections struct {
	open           *prometheus.GaugeVec
	refused, begun *prometheus.CounterVec
}

func newConnections(registry prometheus.Registerer) *connections {
	c := &connections{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spark_vitals_connections",
			Help: "Open connections, by endpoint: reviews, metrics, health.",
		}, []string{"endpoint"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_connections_refused_total",
			Help: "Connections closed because too many were open, the longest unused first.",
		}, []string{"endpoint"}),
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_requests_begun_total",
			Help: "Requests started. Those without a counted answer were not HTTP or were cut off before their headers ended.",
		}, []string{"endpoint"}),
	}
	registry.MustRegister(c.open, c.refused, c.begun)
	return c
}

// of returns the limit of one endpoint.
func (c *connections) of(endpoint string) *connLimiter {
	return &connLimiter{
		open: c.open.WithLabelValues(endpoint), refused: c.refused.WithLabelValues(endpoint), begun: c.begun.WithLabelValues(endpoint),
		at: map[net.Conn]*list.Element{},
	}
}

// connLimiter limits the open connections of an endpoint. Above the limit it closes the one
// on which nothing began or ended for the longest time. So a new client is always
// served, even if many others stay.
type connLimiter struct {
	open           prometheus.Gauge
	refused, begun prometheus.Counter

	mu    sync.Mutex
	order list.List // of connection, the longest unused first
	at    map[net.Conn]*list.Element
}

type connection struct {
	net.Conn
	cancel context.CancelFunc // ends the work for this connection
}

// opened is a ConnContext for http.Server.
func (c *connLimiter) opened(ctx context.Context, conn net.Conn) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	c.open.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[conn] = c.order.PushBack(connection{conn, cancel})
	if c.order.Len() > maxConnections {
		oldest := c.remove(c.order.Front())
		c.refused.Inc()
		_ = underTLS(oldest.Conn).Close()
	}
	return ctx
}

// changed is a ConnState for http.Server.
func (c *connLimiter) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateActive {
		c.begun.Inc()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	element, open := c.at[conn]
	switch {
	case state == http.StateClosed:
		c.open.Dec()
		if open {
			c.remove(element)
		}
	case open:
		c.order.MoveToBack(element)
	}
}

func (c *connLimiter) remove(element *list.Element) connection {
	removed := c.order.Remove(element).(connection)
	delete(c.at, removed.Conn)
	removed.cancel()
	return removed
}

// underTLS returns the connection below TLS, which closes without a message to a client
// that may not read it.
func underTLS(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return conn
}
