// Package watch is the stall watch. It reads the logs of Spark's running drivers, and
// reports log stalls: on the driver, as an Event and as a metric. It ends nothing.
//
// The webhook stamps on a driver that it is watched, and for how long it may be silent.
// What is known of a log is only in memory. A new leader reads the log of each driver
// once that runs longer than it may be silent, and then knows as much.
//
// A driver chooses what is asked of it, but only about itself: logs are read by its own
// name, and the UI is called only at its own address.
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

// Config is the configuration of a stall watch.
type Config struct {
	API *rest.Config
	// Namespaces are the namespaces of the drivers that are watched; none means all.
	Namespaces []string
	// Namespace is the stall watch's own, with its lease.
	Namespace string
	// CallsPerSecond limits all calls to the API server, for looks and reports
	// together.
	CallsPerSecond float32
	// ReadDriverUI asks the UI of a silent driver what its threads do.
	ReadDriverUI bool
	// MetricsBindAddress and HealthProbeBindAddress are "host:port", or "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	Log                                        *slog.Logger
}

// name is the name of the lease and of the source of Events.
const name = "spark-vitals-stallwatch"

// workers is how many looks run at once. Each waits most of its time, for a kubelet or
// a UI.
const workers = 8

// Run watches until the context ends.
func Run(ctx context.Context, c Config) error {
	api, err := newAPIServer(c)
	if err != nil {
		return fmt.Errorf("starting the stall watch: %w", err)
	}
	l := newLoop(api, c.CallsPerSecond, c.Log)
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
