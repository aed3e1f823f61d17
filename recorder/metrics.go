package recorder

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// metrics are the recorder's metrics. The replica that creates the Event of a death
// counts it, so the sum of two replicas is right. If no Event can be created, each
// replica counts.
type metrics struct {
	deaths        *prometheus.CounterVec
	withoutDriver *prometheus.CounterVec
	lag           prometheus.Histogram
	writes        *prometheus.CounterVec
	errors        *prometheus.CounterVec
	unseen        prometheus.Counter
	plans         *prometheus.CounterVec
	dropped       prometheus.Counter
	runs          *prometheus.CounterVec
	lost          *prometheus.CounterVec
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
			Help: "Failed calls to the API server, by what was called: record, driver, event, killing, configmap, watch, job; or panic, for a bug in the recorder.",
		}, []string{"call"}),
	}
	m.unseen = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_ends_unseen_total",
		Help: "Spark's pods that were gone when a broken watch continued, and whose end the recorder did not see.",
	})
	m.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spark_vitals_runs_dropped_total",
		Help: "Runs of jobs whose driver is gone and whose end could not be written for an hour, or for which no place was left.",
	})
	m.runs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spark_vitals_runs_total",
		Help: "Runs of SparkJobs that ended, by namespace and by the state that was written first: SUCCEEDED, FAILED, KILLED, STOPPED, UNKNOWN.",
	}, []string{"namespace", "state"})
	m.lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spark_vitals_lost_executor_seconds_total",
		Help: "For how many seconds executors ran in vain, in runs of SparkJobs that ended: they died, or their driver did.",
	}, []string{"namespace"})
	m.plans = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spark_vitals_remedies_total",
		Help: "Remedies that were written on drivers: what later executors are to get because earlier ones died of memory. By mode and result: changed; refused: nothing is done, or nothing more; withdrawn: no more memory, because executors with it did not start.",
	}, []string{"mode", "result"})
	// They start at zero: for Prometheus a counter whose first value is 1 has not
	// increased.
	for _, outcome := range []string{"written", "conflict", "full", "gone", "refused", "error"} {
		m.writes.WithLabelValues(outcome)
	}
	for _, call := range []string{"record", "driver", "event", "killing", "configmap", "watch", "job", "panic"} {
		m.errors.WithLabelValues(call)
	}
	for _, mode := range []annotations.Mode{annotations.Enabled, annotations.Audit} {
		for _, result := range []string{changedRemedy, refusedRemedy, withdrawnRemedy} {
			m.plans.WithLabelValues(string(mode), result)
		}
	}
	registry.MustRegister(m.deaths, m.withoutDriver, m.lag, m.writes, m.errors, m.unseen, m.plans, m.dropped, m.runs, m.lost)
	return m
}

// missed counts missed injections when it is scraped.
type missed struct {
	description *prometheus.Desc
	byNamespace func() map[string]int
}

func newMissed(byNamespace func() map[string]int) *missed {
	return &missed{
		prometheus.NewDesc("spark_vitals_missed_injections", "Running Spark pods without a stamp in namespaces that opted in.", []string{"namespace"}, nil),
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
