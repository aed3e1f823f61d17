package releaser

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
)

// metrics are the releaser's metrics. Labels only have values that this program
// defines.
type metrics struct {
	releases *prometheus.CounterVec
	refusals *prometheus.CounterVec
	failures prometheus.Counter
	sessions prometheus.Counter
	unseen   prometheus.Counter
	// unwritten counts releases and running engines that did not fit into the journal
	unwritten    prometheus.Counter
	lookFailures prometheus.Counter
	seconds      prometheus.Histogram
	gauges       []prometheus.Collector
}

func newMetrics(pending func() (all, refused float64), unregistered func() float64) *metrics {
	labels := prometheus.Labels{"gateway": gateway.Name}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	m := &metrics{
		releases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_releases_total", ConstLabels: labels,
			Help: "Finished releases of dead engines, by what happened to the registration: deregistered, expired, not-registered or unproven.",
		}, []string{"registration"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_release_refusals_total", ConstLabels: labels,
			Help: "Releases that need a person to act, by reason.",
		}, []string{"reason"}),
		failures:     counter("spark_vitals_release_failures_total", "Failed tries to release an engine. Each is repeated."),
		sessions:     counter("spark_vitals_release_sessions_total", "Closed sessions of dead engines."),
		unseen:       counter("spark_vitals_release_ends_unseen_total", "Engines that ran when the watch broke, and were gone when it listed again. If they died, their registrations must expire."),
		unwritten:    counter("spark_vitals_release_unwritten_total", "Releases, and running engines without a registration, that did not fit into the journal. If the process ends before it closes their sessions, the sessions stay."),
		lookFailures: counter("spark_vitals_release_look_failures_total", "Failed looks at the registrations of running engines. An engine whose registration expires meanwhile leaves no proof of which sessions belong to it."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "spark_vitals_release_seconds", ConstLabels: labels,
			Help: "Time from a driver's death to its deregistration. After that a new connection starts a new engine. The kubelet reports the death in whole seconds.",
			// Fine below the time that a registration stays without the releaser.
			Buckets: []float64{.5, 1, 1.5, 2, 3, 5, 10, 20, 40, 60, 120, 300, 1800},
		}),
		gauges: []prometheus.Collector{
			gauge("spark_vitals_releases_pending", "Dead engines that are not yet released. Those that only wait until their sessions are due are not counted.", func() float64 { all, _ := pending(); return all }),
			gauge("spark_vitals_releases_refused", "Of these, engines that need a person to act.", func() float64 { _, refused := pending(); return refused }),
			gauge("spark_vitals_engines_unregistered", "Engines that run and are no longer registered: frozen, about to end, or set to take no new sessions.", unregistered),
		},
	}
	for _, result := range []annotations.ReleaseResult{annotations.Deregistered, annotations.Expired, annotations.NotRegistered, annotations.Unproven} {
		m.releases.WithLabelValues(string(result)) // begins at zero, so that Prometheus sees the first
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return append(m.gauges, m.lookFailures, m.releases, m.refusals, m.failures, m.sessions, m.unseen, m.unwritten, m.seconds)
}

func (m *metrics) deregistered(r *gateway.Release) {
	if !r.Expired && !r.Death.Estimated {
		m.seconds.Observe(time.Since(r.Death.At).Seconds())
	}
}

func (m *metrics) released(mark annotations.ReleaseMark) {
	m.releases.WithLabelValues(string(mark.Registration)).Inc()
	m.sessions.Add(float64(mark.Sessions))
}
