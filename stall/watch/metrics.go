package watch

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// metrics are the stall watch's metrics, as a prometheus.Collector.
type metrics struct {
	looks  *prometheus.CounterVec
	stalls *prometheus.CounterVec
	late   prometheus.Histogram

	watched, unknown, unwritten, held, stalled *prometheus.Desc
	count                                      func() counts
}

// counts are the current numbers of drivers. A namespace with any watched driver has
// its zeros, so Prometheus sees at once when none is left.
type counts struct {
	watched, unknown, unwritten int

	held    map[string]int                            // by namespace
	stalled map[string]map[annotations.Confidence]int // the same
}

func newMetrics(count func() counts) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_stall_looks_total",
			Help: "Looks at the end of a driver's log, by outcome: talks, silent, stalled, empty, unknown.",
		}, []string{"outcome"}),
		stalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_stalls_total",
			Help: "Drivers reported as stalled, by namespace and confidence: sure, likely, unsure.",
		}, []string{"namespace", "confidence"}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "spark_vitals_stall_late_seconds",
			Help:    "Delay of a look at a log after it was due.",
			Buckets: []float64{.1, 1, 5, 15, 60, 300, 1800},
		}),
		watched:   gauge("spark_vitals_stall_watched", "Drivers whose log is watched."),
		unknown:   gauge("spark_vitals_stall_unknown", "Watched drivers whose log could not be read the last time."),
		unwritten: gauge("spark_vitals_stall_marks_unwritten", "Drivers whose mark could not be written or removed yet."),
		held:      gauge("spark_vitals_stalls_held", "Drivers that are stalled and not reported, because too many fell silent together.", "namespace"),
		stalled:   gauge("spark_vitals_stalled_drivers", "Drivers reported as stalled now.", "namespace", "confidence"),
		count:     count,
	}
	for _, outcome := range append(slices.Collect(maps.Values(outcomes)), unknown) {
		m.looks.WithLabelValues(outcome)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.looks, m.stalls, m.late} {
		c.Collect(to)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	n := m.count()
	gauge(m.watched, n.watched)
	gauge(m.unknown, n.unknown)
	gauge(m.unwritten, n.unwritten)
	for namespace, held := range n.held {
		gauge(m.held, held, namespace)
	}
	for namespace, by := range n.stalled {
		for confidence, stalled := range by {
			gauge(m.stalled, stalled, namespace, string(confidence))
		}
	}
}

func (l *loop) count() counts {
	l.lock.Lock()
	defer l.lock.Unlock()
	n := counts{held: map[string]int{}, stalled: map[string]map[annotations.Confidence]int{}}
	for k, d := range l.drivers {
		if n.stalled[k.Namespace] == nil {
			n.held[k.Namespace] = 0
			n.stalled[k.Namespace] = map[annotations.Confidence]int{annotations.Sure: 0, annotations.Likely: 0, annotations.Unsure: 0}
		}
		if d.unwritten {
			n.unwritten++
		}
		if d.ended {
			continue
		}
		n.watched++
		if d.failed {
			n.unknown++
		}
		if d.held {
			n.held[k.Namespace]++
		}
		if d.mark != nil {
			n.stalled[k.Namespace][known(d.mark.Confidence)]++
		}
	}
	return n
}

// known returns a confidence for a metric's label. A mark is read from a pod, and a
// label only has values that this program defines.
func known(c annotations.Confidence) annotations.Confidence {
	if c == annotations.Sure || c == annotations.Likely {
		return c
	}
	return annotations.Unsure
}
