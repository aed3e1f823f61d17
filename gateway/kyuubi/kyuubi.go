package kyuubi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Kyuubi is a gateway with one configuration. Make one with [New].
type Kyuubi struct {
	config *Config
	exact  *exact // nil for the way rest
	slices client.Reader
	log    *slog.Logger
	// transport to the servers, new for each release; its second result closes it.
	transport func() (http.RoundTripper, func(), error)
	refused   credentialsRefused
}

var _ gateway.Gateway = (*Kyuubi)(nil)

// New is the gateway of a configuration. The reader is asked for EndpointSlices;
// it may be nil where the servers are listed.
func New(c *Config, slices client.Reader, log *slog.Logger) *Kyuubi {
	k := &Kyuubi{config: c, slices: slices, log: log, transport: c.Servers.transport, refused: credentialsRefused{now: time.Now}}
	if c.Way == Exact {
		k.exact = newExact(*c.ZooKeeper)
	}
	return k
}

// Name is "kyuubi".
func (k *Kyuubi) Name() string { return "kyuubi" }

// Label is "kyuubi-unique-tag".
func (k *Kyuubi) Label() string { return tagLabel }

// Engine of a driver. Batches and drivers that Kyuubi did not launch are none.
func (k *Kyuubi) Engine(driver spark.Pod) (gateway.Engine, bool) { return engineOf(driver) }

// Registrations of an engine: nodes in ZooKeeper, or queries of the REST API.
func (k *Kyuubi) Registrations(ctx context.Context, e gateway.Engine) ([]gateway.Registration, error) {
	if k.exact != nil {
		return k.exact.registrations(ctx, e)
	}
	return k.restRegistrations(ctx, e)
}

// Deregister an engine. Only the way rest can have collateral.
func (k *Kyuubi) Deregister(ctx context.Context, e gateway.Engine, found []gateway.Registration) ([]string, error) {
	if k.exact != nil {
		return nil, k.exact.deregister(ctx, found)
	}
	return k.restDeregister(ctx, e, found)
}

// CloseSessions of an engine on every server.
func (k *Kyuubi) CloseSessions(ctx context.Context, e gateway.Engine) (int, error) {
	return k.closeSessions(ctx, e)
}
