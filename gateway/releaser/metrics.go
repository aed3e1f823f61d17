package releaser

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// metrics of the releaser. Labels take only values of ours.
type metrics struct {
	releases *prometheus.CounterVec
	refusals *prometheus.CounterVec
	failures prometheus.Counter
	sessions prometheus.Counter
	unseen   prometheus.Counter
	// unwritten releases, for the journal was full
	unwritten prometheus.Counter
	seconds   prometheus.Histogram
	pending   []prometheus.Collector
}

func newMetrics(pending func() (all, refused float64)) *metrics {
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
			Help: "Dead engines that are done with, by what became of their registration: deregistered, expired, not-registered or unproven.",
		}, []string{"registration"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_release_refusals_total", ConstLabels: labels,
			Help: "Releases that need somebody to change something, by reason.",
		}, []string{"reason"}),
		failures:  counter("spark_vitals_release_failures_total", "Tries to release that failed and are made again."),
		sessions:  counter("spark_vitals_release_sessions_total", "Sessions of dead engines that were closed."),
		unseen:    counter("spark_vitals_release_ends_unseen_total", "Engines that ran when the watch broke off and were gone when it began anew: if they died, their registrations have to expire."),
		unwritten: counter("spark_vitals_release_unwritten_total", "Releases that the journal had no room for: if the process ends before it closes their sessions, these stay."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "spark_vitals_release_seconds", ConstLabels: labels,
			Help: "Time from a driver's death, in whole seconds as the kubelet reports it, to its deregistration: from then on a new connection starts a new engine.",
			// Fine below the time that a registration lives without us.
			Buckets: []float64{.5, 1, 1.5, 2, 3, 5, 10, 20, 40, 60, 120, 300, 1800},
		}),
		pending: []prometheus.Collector{
			gauge("spark_vitals_releases_pending", "Dead engines that are still to be released. Those whose sessions are kept for their clients are not counted.", func() float64 { all, _ := pending(); return all }),
			gauge("spark_vitals_releases_refused", "Of these, those that need somebody to change something.", func() float64 { _, refused := pending(); return refused }),
		},
	}
	for _, outcome := range []gateway.Outcome{gateway.Deregistered, gateway.Expired, gateway.NotRegistered, gateway.Unproven} {
		m.releases.WithLabelValues(string(outcome)) // begins at zero, so that Prometheus sees the first
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return append(m.pending, m.releases, m.refusals, m.failures, m.sessions, m.unseen, m.unwritten, m.seconds)
}

func (m *metrics) failed() { m.failures.Inc() }

func (m *metrics) refused(reason gateway.Reason) { m.refusals.WithLabelValues(string(reason)).Inc() }

func (m *metrics) deregistered(r *gateway.Release) {
	if !r.Expired && !r.Death.Estimated {
		m.seconds.Observe(time.Since(r.Death.At).Seconds())
	}
}

func (m *metrics) released(mark gateway.Mark) {
	m.releases.WithLabelValues(string(mark.Registration)).Inc()
	m.sessions.Add(float64(mark.Sessions))
}
