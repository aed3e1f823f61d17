package webhook

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Metrics are the webhook's metrics. Labels only have values that this program
// defines: paths, outcomes, and the names of the policy's rules.
type Metrics struct {
	requests *prometheus.CounterVec
	warnings *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	lost     prometheus.Counter
	remedied *prometheus.CounterVec
}

// NewMetrics registers the webhook's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_admission_requests_total",
			Help: "Admission requests by path, resource, Spark role, rule and outcome. With an outcome of error, panic or too_large the object was admitted unchanged.",
		}, []string{"path", "resource", "role", "rule", "outcome"}),
		warnings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spark_vitals_admission_warnings_total",
			Help: fmt.Sprintf("Warnings given to users, by path and kind: %v.", policy.WarningKinds),
		}, []string{"path", "kind"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spark_vitals_admission_duration_seconds",
			Help: "Time from a request's headers to its answer, by path and HTTP status.",
			// Fine around the time of a review, so that they show if its p99 is below 5 ms.
			Buckets: []float64{.0001, .00025, .0005, .00075, .001, .0015, .002, .003, .004, .005, .0075, .01, .025, .05, .1, .25, .5, 1, 3},
		}, []string{"path", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spark_vitals_admission_requests_in_flight",
			Help: "Admission requests in progress.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spark_vitals_admission_answers_lost_total",
			Help: "Answers that could not be delivered (lower bound: the webhook does not see a client that leaves during the answer). They also count as answered.",
		}),
	}
	m.remedied = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spark_vitals_remedied_pods_total",
		Help: "Creations of pods that got fewer cores or more memory because earlier ones died of memory, by role and mode. A creation that is refused later, for example by a quota, counts each time. With the mode audit nothing was changed.",
	}, []string{"role", "mode"})
	registry.MustRegister(m.requests, m.warnings, m.seconds, m.inFlight, m.lost, m.remedied)
	m.beginAtZero()
	return m
}

// beginAtZero creates the series that alerts read. Prometheus sees no increase in a
// counter that starts at 1, and a missing counter is not 0.
func (m *Metrics) beginAtZero() {
	for _, mode := range []policy.Mode{policy.Enabled, policy.Audit} {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			m.remedied.WithLabelValues(string(role), string(mode))
		}
	}
	for _, path := range []string{"mutate", "audit", "validate"} {
		for _, resource := range []string{"pods", "services"} {
			for _, outcome := range []Outcome{Failed, Panicked} {
				m.requests.WithLabelValues(path, resource, "", "", string(outcome))
			}
		}
		for _, status := range []int{http.StatusRequestTimeout, http.StatusServiceUnavailable} {
			m.seconds.WithLabelValues(path, strconv.Itoa(status))
		}
		for _, kind := range policy.WarningKinds {
			m.warnings.WithLabelValues(path, string(kind))
		}
	}
}

func (m *Metrics) count(path string, req *admission.Request, v verdict) {
	resource := map[kind]string{pods: "pods", services: "services"}[kindOf(req)]
	m.requests.WithLabelValues(path, resource, v.role, v.result.Rule, string(v.outcome)).Inc()
	if mode := v.result.Remedied; mode != "" && !isDryRun(req) {
		m.remedied.WithLabelValues(v.role, string(mode)).Inc()
	}
	for _, w := range v.result.Warnings {
		m.warnings.WithLabelValues(path, string(w.Kind)).Inc()
	}
}

// timed returns a handler that measures another.
func (m *Metrics) timed(path string, next http.Handler) http.Handler {
	seconds := m.seconds.MustCurryWith(prometheus.Labels{"path": path})
	return promhttp.InstrumentHandlerInFlight(m.inFlight, promhttp.InstrumentHandlerDuration(seconds, next))
}
