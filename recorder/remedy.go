package recorder

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// The results of a remedy, as the metric of remedies names them.
const (
	fewerCores    = "fewer_cores"
	refusedRemedy = "refused"
)

// terms returns what the rule of the executor that died allows. ok is false if it allows
// no remedy: then the webhook stamped nothing.
func (f *fact) terms() (terms annotations.RemedyTerms, ok bool) {
	if f.Role != spark.Executor || !f.IsSparks() {
		return terms, false
	}
	return annotations.ReadRemedyTerms(f.pod.Annotations[annotations.RemedyRule])
}

// mayBeRemedied reports whether later executors may get something because of this death.
func (f *fact) mayBeRemedied() bool {
	_, ok := f.terms()
	return ok && f.Cause.IsOOM()
}

// plan works out what later executors of a running driver are to get. The newest death
// of a resource profile has the rule in force.
func (r *recorder) plan(w *result, facts []fact) {
	if _, ended := w.driver.End(); ended {
		return
	}
	terms, newest := map[string]annotations.RemedyTerms{}, map[string]*fact{}
	for i := range facts {
		f := &facts[i]
		t, ok := f.terms()
		if last := newest[f.ResourceProfile()]; ok && (last == nil || !f.At.Before(&last.At)) {
			terms[f.ResourceProfile()], newest[f.ResourceProfile()] = t, f
		}
	}
	if len(terms) > 0 {
		w.record.Remedy = remedy.Plans(w.record.Remedy, remedy.Application{
			Driver: w.driver, Record: &w.record, Terms: terms, Settings: r.knowledge.latest(w.driver.UID, r.now()),
		})
	}
}

// reportPlans counts the plans that this replica wrote, and creates an Event for each.
// before is the annotation that the driver had.
func (r *recorder) reportPlans(before string, w *result) {
	earlier := annotations.ReadRemedy(before)
	for _, p := range annotations.ReadRemedy(w.driver.Annotations[annotations.Remedy]) {
		same := func(old annotations.RemedyPlan) bool {
			old.Until = p.Until
			return old == p
		}
		if slices.ContainsFunc(earlier, same) {
			continue
		}
		result := fewerCores
		if p.Refused != "" {
			result = refusedRemedy
		}
		r.metrics.plans.WithLabelValues(string(p.Mode), result).Inc()
		r.tellPlan(p, w)
	}
}

// tellPlan queues an Event about a plan.
func (r *recorder) tellPlan(p annotations.RemedyPlan, w *result) {
	i := slices.IndexFunc(w.record.Details, func(t oom.Termination) bool { return t.Role == spark.Executor })
	if i < 0 {
		return // no death has led to it
	}
	newest := w.record.Details[i]
	sum := sha256.Sum256(fmt.Append(nil, w.driver.UID, p.Profile, p.Mode, p.ToCores, p.Refused, p.Until))
	r.pending.Add(1)
	r.events.Add(&deathEvent{
		termination: &newest, pod: w.driver.Pod, driver: w.driver.Name,
		Event: &eventsv1.Event{
			ObjectMeta:          metav1.ObjectMeta{Namespace: w.driver.Namespace, Name: fmt.Sprintf("%.200s.%x", w.driver.Name, sum[:8])},
			EventTime:           metav1.NewMicroTime(r.now()),
			ReportingController: Controller,
			ReportingInstance:   r.instance,
			Action:              "Record",
			Reason:              "ExecutorRemedy",
			Regarding:           reference(w.driver.Pod),
			Note:                bounded.Cut(oom.ExplainRemedy(p, w.driver), maxNote),
			Type:                corev1.EventTypeNormal,
		},
	})
	r.Log.Info("remedy", "namespace", w.driver.Namespace, "driver", w.driver.Name, "application", strings.ToValidUTF8(p.Application, "?"), "profile", p.Profile,
		"mode", p.Mode, "fromCores", p.FromCores, "toCores", p.ToCores, "refused", p.Refused)
}
