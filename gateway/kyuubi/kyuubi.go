package kyuubi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
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

// Instance is where its engines register: "/kyuubi".
func (k *Kyuubi) Instance() string {
	if k.exact != nil {
		return path.Join(k.config.ZooKeeper.Root, k.config.ZooKeeper.Namespace)
	}
	if s := k.config.Servers.Service; s != nil {
		return "service " + s.Namespace + "/" + s.Name
	}
	return strings.Join(k.config.Servers.URLs, " ")
}

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
func (k *Kyuubi) Deregister(ctx context.Context, r *gateway.Release) ([]string, error) {
	if k.exact != nil {
		return nil, k.exact.deregister(ctx, r)
	}
	return k.restDeregister(ctx, r)
}

// CloseSessions of an engine on every server, unless another engine has its
// application id; only ZooKeeper shows that.
func (k *Kyuubi) CloseSessions(ctx context.Context, r *gateway.Release) ([]gateway.Closed, error) {
	if k.exact != nil {
		if err := k.exact.noRivals(ctx, r.Engine); err != nil {
			return nil, err
		}
	}
	return k.closeSessions(ctx, r)
}

// owner of the engine's sessions, where its spaces are one user's; "" for a
// group's or the server's.
func (k *Kyuubi) owner(r *gateway.Release) (owner string) {
	for i, found := range r.Found {
		var level, user string
		if k.exact != nil {
			level, user, _ = k.exact.place(found, r.Engine)
		} else if query, err := url.ParseQuery(string(found)); err == nil {
			level, user = query.Get("sharelevel"), query.Get("proxyUser")
		}
		if level != "USER" && level != "CONNECTION" || i > 0 && user != owner {
			return ""
		}
		owner = user
	}
	return owner
}
