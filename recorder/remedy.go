package recorder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// The results of a remedy, as the metric of remedies names them.
const (
	changedRemedy   = "changed"
	refusedRemedy   = "refused"
	withdrawnRemedy = "withdrawn"
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

// mayNeedPlan reports whether a pod is a running executor whose rule has a remedy.
func mayNeedPlan(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && p.Annotations[annotations.RemedyRule] != ""
}

// plan works out what later executors of a running driver are to get. The newest death
// of a resource profile has the rule in force. It does nothing, and returns false, if the
// driver's UI may still say what a plan depends on, unless this is the last time.
func (r *recorder) plan(w *result, facts []fact, last bool) (done bool) {
	terms, newest := map[string]annotations.RemedyTerms{}, map[string]*fact{}
	for i := range facts {
		f := &facts[i]
		t, ok := f.terms()
		if last := newest[f.ResourceProfile()]; ok && (last == nil || !f.At.Before(&last.At)) {
			terms[f.ResourceProfile()], newest[f.ResourceProfile()] = t, f
		}
	}
	if len(terms) == 0 {
		return true
	}
	if _, ended := w.driver.End(); ended {
		r.planNextRun(w.driver, &w.record, terms, facts)
		return true
	}
	basis := r.knowledge.basis(w.driver.UID, seenLast(pointers(facts)), r.now())
	if !basis.isComplete() && !last && r.knowledge.mayStillSay(w.driver.UID) {
		return false
	}
	w.record.Remedy = remedy.Plans(w.record.Remedy, remedy.Application{
		Driver: w.driver, Record: &w.record, Terms: terms, Executors: ranBefore(executorsAmong(r.podsOf(applicationOf(w.driver))), facts),
		Settings: basis.settings, Barrier: basis.barrier,
	})
	return true
}

func plansOf(driver spark.Pod) []annotations.RemedyPlan {
	return annotations.ReadRemedy(driver.Annotations[annotations.Remedy])
}

// look looks at the plans of a driver that give executors more memory, and takes the
// memory back if executors do not start because of it. pods are all of the application. It
// looks again later, in each attempt: the queue forgets an earlier look when facts come.
func (r *recorder) look(ctx context.Context, app application, driver spark.Pod, pods []*corev1.Pod) {
	if driver.Pod == nil {
		return
	}
	plans := plansOf(driver)
	if r.knowledge.isUnprepared(driver.UID) && slices.ContainsFunc(pods, mayNeedPlan) {
		r.knowledge.askForPlan(ctx, driver.UID, r.now(), func() spark.Pod { return driver }, r.now()) // see isUnprepared
	}
	r.planAgain(ctx, driver)
	if _, ended := driver.End(); ended || len(plans) == 0 { // most have none
		return
	}
	executors, dynamic := executorsAmong(pods), r.knowledge.isDynamic(driver.UID)
	for _, p := range plans {
		key := string(driver.UID) + " " + p.Profile
		if !remedy.IsToBeLookedAt(&p, r.now()) {
			continue
		}
		r.queue.AddAfter(app, remedy.Look)
		if remedy.IsStarting(&p, driver, r.now()) {
			continue
		}
		short, newest := r.shortOf(key), newestOf(executors, p.Profile)
		proven := r.isProven(fmt.Sprint(key, p.Memory.ToLimitMiB), &p, executors)
		if dynamic && proven {
			continue // that fewer executors run is then no sign
		}
		switch {
		case !remedy.IsShort(&p, executors):
			r.short.Remove(key)
		case short.since.IsZero() || newest.After(short.newest):
			r.short.Add(key, shortage{r.now(), newest})
		case r.now().Sub(short.since) >= remedy.ShortFor:
			r.withdraw(ctx, driver, p.Profile, proven)
			return
		}
	}
}

// shortage is since when fewer executors run than before. It begins again with each
// executor that is created, because its creation was not refused.
type shortage struct {
	since  time.Time // by the recorder's clock
	newest time.Time // when the newest executor was created, by the API server's
}

func (r *recorder) shortOf(key string) shortage {
	found, _ := r.short.Get(key)
	short, _ := found.(shortage)
	return short
}

// newestOf returns when the newest living executor of a resource profile was created.
func newestOf(executors []spark.Pod, profile string) (newest time.Time) {
	for _, e := range executors {
		if e.IsAlive() && e.ResourceProfile() == profile && e.CreationTimestamp.After(newest) {
			newest = e.CreationTimestamp.Time
		}
	}
	return newest
}

// isProven reports whether an executor was ever seen with the memory of a plan, which has
// a key.
func (r *recorder) isProven(key string, p *annotations.RemedyPlan, executors []spark.Pod) bool {
	_, proven := r.raised.Get(key)
	if !proven && remedy.IsProven(p, executors) {
		r.raised.Add(key, struct{}{})
		return true
	}
	return proven
}

// withdraw takes the memory of a plan back. If it fails, the next look tries again.
func (r *recorder) withdraw(ctx context.Context, driver spark.Pod, profile string, started bool) {
	_ = r.changePlans(ctx, driver, func(w *result) { w.record.Remedy = remedy.Withdraw(w.record.Remedy, profile, started) })
}

// changePlans changes the plans on a driver, if that is still there, and reports them.
func (r *recorder) changePlans(ctx context.Context, driver spark.Pod, change func(*result)) error {
	driver, space, err := r.live(ctx, driver)
	if err != nil || driver.Pod == nil {
		return err
	}
	w := result{driver: driver, record: r.read(driver)}
	before := driver.Annotations[annotations.Remedy]
	if change(&w); annotations.RemedyText(w.record.Remedy) == before {
		return nil
	}
	patched, err := r.patch(ctx, driver, &w.record, parts{space: space, plans: true})
	r.metrics.writes.WithLabelValues(string(outcomeOf(err))).Inc()
	if err != nil {
		r.Log.Warn("the remedy of an application is not changed yet", "namespace", driver.Namespace, "driver", driver.Name, "error", err)
		return err
	}
	w.driver = patched
	r.reportPlans(before, &w)
	return nil
}

func executorsAmong(pods []*corev1.Pod) (executors []spark.Pod) {
	for _, p := range pods {
		if pod, err := spark.PodOf(p); err == nil && pod.Role == spark.Executor {
			executors = append(executors, pod)
		}
	}
	return executors
}

// ranBefore returns how many executors of each resource profile ran before deaths. Spark
// may have created the next ones already, and clocks differ.
func ranBefore(executors []spark.Pod, deaths []fact) map[string]int {
	const clocks = 5 * time.Second
	n, dead := map[string]int{}, map[types.UID]bool{}
	var first time.Time
	for _, f := range deaths {
		if _, ok := f.terms(); ok && !dead[f.pod.UID] {
			dead[f.pod.UID] = true
			n[f.ResourceProfile()]++
			if first.IsZero() || f.At.Time.Before(first) {
				first = f.At.Time
			}
		}
	}
	for _, e := range executors {
		if e.IsAlive() && !dead[e.UID] && e.CreationTimestamp.Time.Before(first.Add(-clocks)) {
			n[e.ResourceProfile()]++
		}
	}
	return n
}

// reportPlans counts the plans that this replica wrote, and creates an Event for each.
// before is the annotation that the driver had.
func (r *recorder) reportPlans(before string, w *result) {
	earlier := annotations.ReadRemedy(before)
	for _, p := range plansOf(w.driver) {
		same := func(old annotations.RemedyPlan) bool {
			old.Until = p.Until
			return annotations.RemedyText([]annotations.RemedyPlan{old}) == annotations.RemedyText([]annotations.RemedyPlan{p})
		}
		if slices.ContainsFunc(earlier, same) {
			continue
		}
		result := changedRemedy
		switch {
		case p.Refused != "":
			result = refusedRemedy
		case p.Withdrawn != "":
			result = withdrawnRemedy
		}
		r.metrics.plans.WithLabelValues(string(p.Mode), result).Inc()
		r.tellPlan(p, w)
	}
}

// tellPlan queues an Event about a plan.
func (r *recorder) tellPlan(p annotations.RemedyPlan, w *result) {
	at := r.now()
	if i := slices.IndexFunc(w.record.Details, func(t oom.Termination) bool { return t.Role == spark.Executor }); i >= 0 {
		at = w.record.Details[i].At.Time
	}
	about := reference(w.driver.Pod)
	name := nameOf(about, p.Profile, p.Mode, p.ToCores, p.Refused, p.Withdrawn, p.Until)
	r.pending.Add(1)
	r.events.Add(&deathEvent{
		at: at, pod: w.driver.Pod, driver: w.driver.Name,
		Event: r.newEvent(about, name, "ExecutorRemedy", oom.ExplainRemedy(p, w.driver), corev1.EventTypeNormal),
	})
	r.Log.Info("remedy", "namespace", w.driver.Namespace, "driver", w.driver.Name, "application", strings.ToValidUTF8(p.Application, "?"), "profile", p.Profile,
		"mode", p.Mode, "run", p.Run, "fromCores", p.FromCores, "toCores", p.ToCores, "memory", p.Memory, "withdrawn", p.Withdrawn, "refused", p.Refused)
}
