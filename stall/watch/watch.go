// Package watch asks for the logs of Spark's running drivers, and reports those
// that are silent for too long: on the driver, as an Event and as a metric. It
// ends nothing.
//
// Which drivers, and for how long they may be silent, the webhook has stamped on
// them. What is known of a log is kept in memory: a new leader asks once for each
// driver that runs for longer than it may be silent, and then knows as much.
//
// A driver chooses what is asked of it, so it can choose no one else: logs are
// read by its own name, and the UI is asked on its own address alone.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Config of a stall watch.
type Config struct {
	API *rest.Config
	// Namespaces whose drivers are watched; none means all.
	Namespaces []string
	// Namespace of the stall watch itself: of its lease.
	Namespace string
	// CallsPerSecond of the API server, at most, for all that is asked and told.
	CallsPerSecond float32
	// Addresses to listen on, "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

// name of the lease, and of the source of Events.
const name = "spark-vitals-stallwatch"

// Looks at once. Each waits most of its time, for a kubelet or a UI.
const workers = 8

// Run watches until the context ends.
func Run(ctx context.Context, c Config) error {
	world, err := newCluster(c)
	if err != nil {
		return fmt.Errorf("starting the stall watch: %w", err)
	}
	l := newLoop(world, c.CallsPerSecond, c.Log)
	return job.Elected{
		Name: name, API: c.API, Namespace: c.Namespace, Namespaces: c.Namespaces,
		Pods: cache.ByObject{
			Label: labels.SelectorFromSet(labels.Set{spark.RoleLabel: string(spark.Driver)}),
			Field: fields.OneTermEqualSelector("status.phase", string(corev1.PodRunning)),
		},
		Keep:    reading.Transform,
		Workers: workers, Timeout: time.Minute, MetricsBindAddress: c.MetricsBindAddress, HealthProbeBindAddress: c.HealthProbeBindAddress,
		Metrics: []prometheus.Collector{l.metrics}, Log: c.Log,
	}.Run(ctx, l, l.watch())
}
