package kyuubi

import (
	"context"
	"net/http"
	"path"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// Kyuubi is a gateway with one configuration. Make one with [New].
type Kyuubi struct {
	*registry // finds and removes registrations
	config    *Config
	slices    client.Reader
	// transport makes the connections to the servers, new for each release. Its second
	// result closes them.
	transport func() (http.RoundTripper, func(), error)
	refused   credentialsRefused
}

var _ gateway.Gateway = (*Kyuubi)(nil)

// New returns the gateway of a configuration. The reader is for EndpointSlices; it may
// be nil if the configuration lists the servers.
func New(c *Config, slices client.Reader) *Kyuubi {
	return &Kyuubi{
		registry: newRegistry(*c.ZooKeeper), config: c, slices: slices,
		transport: c.Servers.transport, refused: credentialsRefused{now: time.Now},
	}
}

// Instance returns the path below which its engines register: "/kyuubi".
func (k *Kyuubi) Instance() string {
	return path.Join(k.config.ZooKeeper.Root, k.config.ZooKeeper.Namespace)
}

// CloseSessions closes an engine's sessions on every server, unless another engine has
// its application id.
func (k *Kyuubi) CloseSessions(ctx context.Context, r *gateway.Release) ([]gateway.Closed, error) {
	nodes, err := k.read(ctx)
	if err == nil {
		err = checkUnique(nodes, r.Engine)
	}
	if err != nil {
		return nil, err
	}
	return k.closeSessions(ctx, r)
}

// owner returns the user of the engine's sessions, if its spaces belong to one user. It
// returns "" for the space of a group or of the server.
func (k *Kyuubi) owner(r *gateway.Release) (owner string) {
	for i, found := range r.Found {
		level, user, _ := k.place(found, r.Engine)
		if level != "USER" && level != "CONNECTION" || i > 0 && user != owner {
			return ""
		}
		owner = user
	}
	return owner
}
