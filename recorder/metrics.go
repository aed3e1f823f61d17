package recorder

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the recorder. Of two replicas the one whose Event of a death stands
// counts it, so that their sum is right; where no Event can stand each does.
type metrics struct {
	deaths        *prometheus.CounterVec
	withoutDriver *prometheus.CounterVec
	lag           prometheus.Histogram
	writes        *prometheus.CounterVec
	errors        *prometheus.CounterVec
	unseen        prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_deaths_total",
			Help: "Deaths of Spark's pods, by namespace, role and cause. A death whose cause is corrected later counts under both causes.",
		}, []string{"namespace", "role", "cause"}),
		withoutDriver: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_deaths_without_driver_total",
			Help: "Deaths that no driver has a record of, because the driver is gone or is not a Spark pod. spark_vitals_deaths_total includes them.",
		}, []string{"namespace"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "spark_vitals_record_lag_seconds",
			Help:    "Time from the end of a container to its record on the driver. The kubelet reports the end in whole seconds.",
			Buckets: []float64{.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800},
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_record_writes_total",
			Help: "Attempts to write a record on a driver, by outcome: written, conflict, full, gone, refused (forbidden or invalid), error.",
		}, []string{"outcome"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_recorder_errors_total",
			Help: "Failed calls to the API server, by what was called: record, driver, event, killing, configmap, watch; or panic, for a bug in the recorder.",
		}, []string{"call"}),
	}
	m.unseen = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_ends_unseen_total",
		Help: "Spark's pods that were gone when a broken watch continued, and whose end the recorder did not see.",
	})
	// Begun at zero: a counter whose first value is 1 has not increased as far as
	// Prometheus can tell.
	for _, outcome := range []string{"written", "conflict", "full", "gone", "refused", "error"} {
		m.writes.WithLabelValues(outcome)
	}
	for _, call := range []string{"record", "driver", "event", "killing", "configmap", "watch", "panic"} {
		m.errors.WithLabelValues(call)
	}
	registry.MustRegister(m.deaths, m.withoutDriver, m.lag, m.writes, m.errors, m.unseen)
	return m
}

// missed injections, counted when they are asked for.
type missed struct {
	description *prometheus.Desc
	byNamespace func() map[string]int
}

func newMissed(byNamespace func() map[string]int) *missed {
	return &missed{
		prometheus.NewDesc("spark_vitals_missed_injections", "Running Spark pods in namespaces where the webhook injects, that the webhook did not see.", []string{"namespace"}, nil),
		byNamespace,
	}
}

// Describe implements prometheus.Collector.
func (m *missed) Describe(to chan<- *prometheus.Desc) { to <- m.description }

// Collect implements prometheus.Collector.
func (m *missed) Collect(to chan<- prometheus.Metric) {
	for namespace, n := range m.byNamespace() {
		to <- prometheus.MustNewConstMetric(m.description, prometheus.GaugeValue, float64(n), namespace)
	}
}
