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
	// transport makes the connections to the servers, new for each release. Its second
	// result closes them.
	transport func() (http.RoundTripper, func(), error)
	refused   credentialsRefused
}

var _ gateway.Gateway = (*Kyuubi)(nil)

// New returns the gateway of a configuration. The reader is for EndpointSlices; it may
// be nil if the configuration lists the servers.
func New(c *Config, slices client.Reader, log *slog.Logger) *Kyuubi {
	return &Kyuubi{
		config: c, registry: newRegistry(*c.ZooKeeper), slices: slices, log: log,
		transport: c.Servers.transport, refused: credentialsRefused{now: time.Now},
	}
}

// Instance returns where its engines register: "/kyuubi".
func (k *Kyuubi) Instance() string {
	return path.Join(k.config.ZooKeeper.Root, k.config.ZooKeeper.Namespace)
}

// Engine returns the engine that a driver is. A batch is not an engine, nor is a driver
// that Kyuubi did not launch.
func (k *Kyuubi) Engine(driver spark.Pod) (gateway.Engine, bool) { return engineOf(driver) }

// Registrations returns an engine's nodes in ZooKeeper.
func (k *Kyuubi) Registrations(ctx context.Context, e gateway.Engine) ([]gateway.Registration, error) {
	return k.registry.registrations(ctx, e)
}

// Look returns the registrations of running engines.
func (k *Kyuubi) Look(ctx context.Context, engines []gateway.Engine) ([][]gateway.Registration, error) {
	return k.registry.look(ctx, engines)
}

// Deregister removes the registrations of an engine.
func (k *Kyuubi) Deregister(ctx context.Context, r *gateway.Release) error {
	return k.registry.deregister(ctx, r)
}

// CloseSessions closes an engine's sessions on every server, unless another engine has
// its application id.
func (k *Kyuubi) CloseSessions(ctx context.Context, r *gateway.Release) ([]gateway.Closed, error) {
	if err := k.registry.noRivals(ctx, r.Engine); err != nil {
		return nil, err
	}
	return k.closeSessions(ctx, r)
}

// owner returns the user of the engine's sessions, if its spaces belong to one user. It
// returns "" for the space of a group or of the server.
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
