package kyuubi

import (
	"context"
	"log/slog"
	"net/http"
	"path"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Kyuubi is a gateway with one configuration. Make one with [New].
type Kyuubi struct {
	config   *Config
	registry *registry
	slices   client.Reader
	log      *slog.Logger
	// transport to the servers, new for each release; its second result closes it.
	transport func() (http.RoundTripper, func(), error)
	refused   credentialsRefused
}

var _ gateway.Gateway = (*Kyuubi)(nil)

// New is the gateway of a configuration. The reader is asked for EndpointSlices;
// it may be nil where the servers are listed.
func New(c *Config, slices client.Reader, log *slog.Logger) *Kyuubi {
	return &Kyuubi{
		config: c, registry: newRegistry(*c.ZooKeeper), slices: slices, log: log,
		transport: c.Servers.transport, refused: credentialsRefused{now: time.Now},
	}
}

// Instance is where its engines register: "/kyuubi".
func (k *Kyuubi) Instance() string {
	return path.Join(k.config.ZooKeeper.Root, k.config.ZooKeeper.Namespace)
}

// Engine of a driver. Batches and drivers that Kyuubi did not launch are none.
func (k *Kyuubi) Engine(driver spark.Pod) (gateway.Engine, bool) { return engineOf(driver) }

// Registrations of an engine: its nodes in ZooKeeper.
func (k *Kyuubi) Registrations(ctx context.Context, e gateway.Engine) ([]gateway.Registration, error) {
	return k.registry.registrations(ctx, e)
}

// Look at the registrations of engines that run.
func (k *Kyuubi) Look(ctx context.Context, engines []gateway.Engine) ([][]gateway.Registration, error) {
	return k.registry.look(ctx, engines)
}

// Deregister an engine.
func (k *Kyuubi) Deregister(ctx context.Context, r *gateway.Release) error {
	return k.registry.deregister(ctx, r)
}

// CloseSessions of an engine on every server, unless another engine has its
// application id.
func (k *Kyuubi) CloseSessions(ctx context.Context, r *gateway.Release) ([]gateway.Closed, error) {
	if err := k.registry.noRivals(ctx, r.Engine); err != nil {
		return nil, err
	}
	return k.closeSessions(ctx, r)
}

// owner of the engine's sessions, where its spaces are one user's; "" for a
// group's or the server's.
func (k *Kyuubi) owner(r *gateway.Release) (owner string) {
	for i, found := range r.Found {
		level, user, _ := k.registry.place(found, r.Engine)
		if level != "USER" && level != "CONNECTION" || i > 0 && user != owner {
			return ""
		}
		owner = user
	}
	return owner
}
