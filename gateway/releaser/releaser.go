package releaser

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Config is the configuration of a releaser.
type Config struct {
	API *rest.Config
	// Gateway makes the gateway of the engines to release, from a reader without a
	// cache.
	Gateway func(client.Reader) gateway.Gateway
	// Namespaces are those in which its engines run. Pods elsewhere are not seen.
	Namespaces []string
	// KeepSessions is how long sessions are kept after an engine is deregistered.
	KeepSessions time.Duration
	// Namespace is that of the releaser itself, with its lease and its journal.
	Namespace string
	// MetricsBindAddress and HealthProbeBindAddress are "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

// name is the name of the lease, of the journal and of the source of Events.
const name = "spark-vitals-releaser"

// workers is how many releases run at once. Each waits for the gateway most of its
// time, and one that hangs must not delay others.
const workers = 32

// Run releases dead engines until the context ends.
func Run(ctx context.Context, c Config) error {
	direct, err := client.New(c.API, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		return fmt.Errorf("starting the releaser: %w", err)
	}
	if slices.Contains(c.Namespaces, c.Namespace) {
		return fmt.Errorf("the releaser runs in %s, where engines run too, so a user who submits engines could write its journal; give the releaser its own namespace", c.Namespace)
	}
	l := newLoop(c, direct)
	engines, err := labels.Parse(spark.RoleLabel + "=" + string(spark.Driver) + "," + gateway.Label + "," + spark.ApplicationLabel)
	if err != nil {
		return fmt.Errorf("the labels of an engine's driver: %w", err)
	}
	return job.Elected{
		Name: name, API: c.API, Namespace: c.Namespace, Namespaces: c.Namespaces,
		Pods: cache.ByObject{Label: engines}, Keep: reading.Transform, Standby: l.standBy,
		Workers: workers, MetricsBindAddress: c.MetricsBindAddress, HealthProbeBindAddress: c.HealthProbeBindAddress,
		Metrics: l.metrics.all(), Log: c.Log,
	}.Run(ctx, l, l.watch(), source.TypedFunc[key](l.resume))
}

// reading is what the releaser keeps of a driver that it watches.
var reading = bounded.Reading{Annotation: func(_ spark.Role, key, value string) (string, bool) {
	switch key {
	case annotations.State:
		return bounded.Text(value), true
	case annotations.Released: // the releaser writes none that is longer
		return bounded.Cut(value, maxMark), true
	}
	return "", false
}}

// maxMark is the longest mark of a release that is read, in bytes.
const maxMark = 16 << 10

// maxForbidden is how many times in a row a list of pods may be forbidden before the
// releaser believes it. An API server that has just started forbids calls until it
// knows all roles. With the pauses below that takes half a minute.
const maxForbidden = 8

// Pauses between two tries.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	refusedPause = 10 * time.Minute
	secondLook   = time.Second      // for a registration that was not found
	filesPause   = 10 * time.Second // between two looks at the configuration
)

// registrationExpires is after how long a dead engine has no registration.
const registrationExpires = 10 * time.Minute
