package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// fieldManager is the field manager of the record.
	fieldManager = "spark-vitals-recorder"
	// attempts is how many attempts to write come before the next ones wait, because
	// others change the pod too.
	attempts = 5
)

// outcome is the result for facts. The first six are words of the metric of writes.
type outcome string

const (
	written   outcome = "written"  // the record is on the driver
	conflict  outcome = "conflict" // the pod has changed in the meantime
	full      outcome = "full"     // other annotations leave less space
	gone      outcome = "gone"     // there is no driver, or another pod has its name
	refused   outcome = "refused"  // the write is not allowed, which may last
	failed    outcome = "error"
	dropped   outcome = "dropped"   // they are not recorded, or there is a bug
	postponed outcome = "postponed" // the deaths are old, and others are written first
	unlisted  outcome = "unlisted"  // the namespace's pods are not listed yet
)

// done reports whether the facts need no other attempt.
func (o outcome) done() bool { return o == written || o == gone || o == dropped }

// result is the result of writing on a driver.
type result struct {
	outcome
	driver spark.Pod  // as it was written, or is known
	record oom.Record // the one on the driver, or the one that could not be written
	err    error      // why it could not
}

// write writes facts on the driver of their application, or reports them without it.
// Facts are reported once they are written, or if writing takes long; the first replica
// to report counts them.
func (r *recorder) write(ctx context.Context, app application, facts []fact) (outcome, error) {
	// One watch returns all pods in order, so the cache knew the driver before its
	// executors died.
	pods := r.podsOf(app)
	driver := app.among(pods)
	if !r.recordsIn(app.namespace) || driver.Pod != nil && !r.records(driver) {
		return dropped, nil
	}
	defer r.look(ctx, app, driver, pods)
	facts = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return !f.IsDeath() && outlived(driver, &f.Termination) })
	before := r.read(driver)
	news := r.news(before, facts)
	if len(news) > 0 && !slices.ContainsFunc(news, r.recent) && !r.backlog.Allow() {
		return postponed, nil
	}
	r.measure(ctx, driver, news, len(pods))
	certain, doubtful := split(facts)
	last := r.writeOn(ctx, driver, certain)
	if last.done() {
		proven, err := r.proven(ctx, last.record, doubtful)
		if err != nil && r.mayWait(app) {
			return failed, err // report nothing that may be corrected at once
		}
		certain = append(certain, proven...)
		if last.outcome == written && len(proven) > 0 {
			last = r.writeOn(ctx, last.driver, proven)
		}
	}
	r.report(app, before, &last, certain)
	return last.outcome, last.err
}

// report reports the deaths among facts that were written, or cannot be.
func (r *recorder) report(app application, before oom.Record, last *result, facts []fact) {
	facts = slices.DeleteFunc(latest(facts), func(f fact) bool {
		counted := len(r.news(before, []fact{f})) > 0 || last.record.Holds(&f.Termination) || last.record.Unknowable(&f.Termination)
		return !counted || !f.IsDeath() || !r.recent(&f)
	})
	r.rememberEnds(last.record, facts)
	switch {
	case last.outcome == gone:
		for _, f := range facts {
			r.reportWithoutDriver(f)
		}
	case last.outcome != failed || !r.mayWait(app):
		r.reportOn(last.driver, &last.record, facts, last.outcome == written)
	}
}

// outlived reports whether something ended after its driver, or has no driver. An
// executor without a driver always ends.
func outlived(driver spark.Pod, t *oom.Termination) bool {
	if driver.Pod == nil {
		return true
	}
	end, ended := driver.End()
	return ended && !t.At.Before(&end.At)
}

// mayWait reports whether what failed for an application may soon succeed.
func (r *recorder) mayWait(app application) bool {
	return !r.ending.Load() && r.queue.NumRequeues(app) < maxFailures
}

// news returns the facts that the record does not have.
func (r *recorder) news(record oom.Record, facts []fact) (news []*fact) {
	for i := range facts {
		if after := record; len(after.Add(facts[i].Termination)) > 0 {
			news = append(news, &facts[i])
		}
	}
	return news
}

// recent reports whether a death is reported. Events live an hour, so nothing would
// show that an older death was reported.
func (r *recorder) recent(f *fact) bool { return r.now().Sub(f.At.Time) < oldest }

// measure replaces estimates in new facts by what the driver's UI said, or else by what
// its ConfigMap says.
func (r *recorder) measure(ctx context.Context, driver spark.Pod, news []*fact, executors int) {
	if len(news) > 0 && !r.ending.Load() {
		r.knowledge.describe(ctx, driver, news, executors, r.now())
	}
	for _, f := range news {
		if r.ReadConfigMaps && f.Estimated && f.Role == spark.Driver {
			f.SetHeap(r.heap(ctx, f.pod))
		}
	}
}

// proven returns the doubtful facts that hold: the record has them, or the kubelet
// reported that it stopped the container. An error means that this is not known.
func (r *recorder) proven(ctx context.Context, record oom.Record, doubtful []fact) (all []fact, err error) {
	for _, f := range doubtful {
		if record.Holds(&f.Termination) {
			all = append(all, f)
		}
	}
	news := r.news(record, doubtful)
	killings, err := r.killings(ctx, news)
	for _, f := range news {
		if slices.ContainsFunc(killings, f.provenBy) {
			all = append(all, *f)
		}
	}
	return all, err
}

func (r *recorder) records(driver spark.Pod) bool {
	return r.Everywhere || driver.Annotations[annotations.Inject] != string(annotations.Disabled)
}

// among returns the application's driver among pods. It is the oldest one, in case
// someone made another.
func (a application) among(pods []*corev1.Pod) (driver spark.Pod) {
	for _, p := range pods {
		pod, err := spark.PodOf(p)
		if err != nil || pod.Role != spark.Driver || a.driver != "" && a.driver != p.UID {
			continue
		}
		if driver.Pod == nil || p.CreationTimestamp.Before(&driver.CreationTimestamp) {
			driver = pod
		}
	}
	return driver
}

// read returns the record of a driver. It ignores a record that the recorder cannot
// have written.
func (r *recorder) read(driver spark.Pod) oom.Record {
	if driver.Pod == nil {
		return oom.Record{}
	}
	record, err := oom.Read(driver.Annotations)
	if err != nil {
		r.Log.Warn("the record cannot be read, and is started again", "namespace", driver.Namespace, "driver", driver.Name, "error", err)
	}
	return record
}

// writeOn writes all facts on a driver that are not there yet, in one patch.
func (r *recorder) writeOn(ctx context.Context, driver spark.Pod, facts []fact) (w result) {
	if driver.Pod == nil {
		return result{outcome: gone}
	}
	w.driver = driver
	p := parts{space: oom.Plenty, condition: true, plans: true}
	for range attempts {
		planned := w.driver.Annotations[annotations.Remedy]
		news, stands := r.update(&w, facts)
		if stands {
			w.outcome = written
			return w
		}
		sawExecutors(&w.record, r.podsOf(applicationOf(w.driver)))
		patched, err := r.patch(ctx, w.driver, &w.record, p)
		w.outcome = outcomeOf(err)
		r.metrics.writes.WithLabelValues(string(w.outcome)).Inc()
		switch w.outcome {
		case written:
			r.wrote(&w, patched, news)
			r.reportPlans(planned, &w)
			return w
		case refused:
			if p.plans && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && annotations.RemedyText(w.record.Remedy) != planned { // a guard of an earlier version does not know them
				r.Log.Warn("the remedy of an application is refused, and the record is written without it", "namespace", w.driver.Namespace, "driver", w.driver.Name, "error", err)
				p.plans = false
				continue
			}
			if p.condition && w.record.Condition(w.driver) != nil { // the annotations are worth more than both or none
				r.Log.Warn("the condition of a driver's death is refused, and the record is written without it", "namespace", w.driver.Namespace, "driver", w.driver.Name, "error", err)
				p.condition = false
				continue
			}
			fallthrough
		case failed:
			return w.fail("writing the record of", err)
		case gone:
			return w
		default: // conflict or full: the live driver shows what has changed
		}
		live, left, err := r.live(ctx, w.driver)
		switch {
		case err != nil:
			return w.fail("reading the driver", err)
		case live.Pod == nil:
			w.outcome = gone
			return w
		}
		w.driver, p.space = live, left
	}
	return w.fail("writing the record of", fmt.Errorf("others changed the pod %d times in the meantime", attempts))
}

// update reads the record of a driver and adds the facts to it. stands is true if the
// driver's pod has all of that already.
func (r *recorder) update(w *result, facts []fact) (news []oom.Termination, stands bool) {
	w.record = r.read(w.driver)
	own := oom.Terminations(oom.Evidence{Pod: w.driver.Pod})
	if !slices.ContainsFunc(own, func(t oom.Termination) bool { return t.Role == spark.Driver && t.IsSparks() }) {
		w.record.Driver = nil // from a restored or forged copy: a living driver has not died
	}
	news = w.record.Add(terminations(facts)...)
	if len(news) > 0 && !r.plan(w, facts, false) {
		r.postpone(w.driver, facts, 0)
	}
	state := w.driver.Annotations[annotations.State]
	if state != "" { // true or forged: the pod decides
		w.record.Add(own...)
	}
	return news, len(news) == 0 && state == string(w.record.State(w.driver)) && !r.lacksCondition(w.driver, &w.record)
}

// wrote notes what was written.
func (r *recorder) wrote(w *result, patched spark.Pod, news []oom.Termination) {
	r.conditions.Add(conditionKey(w.driver, &w.record), r.now())
	r.replicas.wrote(w.driver.UID, news)
	w.driver = patched
	for _, t := range news {
		if lag := r.now().Sub(t.At.Time); lag < oldest {
			r.metrics.lag.Observe(lag.Seconds())
		}
	}
}

func (w result) fail(doing string, err error) result {
	if w.outcome != refused {
		w.outcome = failed
	}
	w.err = fmt.Errorf("%s %s/%s: %w", doing, w.driver.Namespace, w.driver.Name, err)
	return w
}

func terminations(facts []fact) (all []oom.Termination) {
	for _, f := range facts {
		all = append(all, f.Termination)
	}
	return all
}

// lacksCondition reports whether a driver has died and its condition does not say so
// yet, or differs from the annotations, which came in the same patch. Old deaths are
// left as they are, because no one waits for them. If the condition is removed again
// and again, it is written again only after a while.
func (r *recorder) lacksCondition(driver spark.Pod, record *oom.Record) bool {
	wanted, stands := record.Condition(driver), deathCondition(driver.Pod)
	if wanted == nil || r.now().Sub(wanted.LastTransitionTime.Time) >= oldest {
		return false
	}
	if at, ok := r.conditions.Get(conditionKey(driver, record)); ok && r.now().Sub(at.(time.Time)) < conditionPause {
		return false
	}
	text := driver.Annotations[annotations.Message]
	return stands == nil || stands.Status != wanted.Status || stands.Reason != wanted.Reason || text != "" && stands.Message != text
}

// conditionKey identifies a driver and why it died.
func conditionKey(driver spark.Pod, record *oom.Record) string {
	return string(driver.UID) + " " + record.Reason()
}

// deathCondition returns the condition of a pod's death, or nil.
func deathCondition(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == annotations.DeathCondition {
			return c
		}
	}
	return nil
}

// parts are the parts of a record that are written, in so many bytes.
type parts struct {
	space            int
	condition, plans bool
}

// patch patches the driver's annotations and its condition through its status, because
// that right does not reach its spec. UID and resourceVersion make sure that it is the
// pod that was read. An annotation that is no longer true, or does not fit, is removed.
// It is a strategic merge patch, as the kubelet's are, because a JSON merge patch would
// replace all conditions.
func (r *recorder) patch(ctx context.Context, driver spark.Pod, record *oom.Record, p parts) (spark.Pod, error) {
	if !p.plans { // the message must not tell of them
		without := *record
		without.Remedy = plansOf(driver)
		record = &without
	}
	all, change := record.Annotations(driver, p.space), map[string]any{}
	for _, key := range annotations.Death {
		if key == annotations.Remedy && !p.plans {
			continue
		}
		if value, ok := all[key]; ok {
			change[key] = value
		} else if _, stands := driver.Annotations[key]; stands {
			change[key] = nil
		}
	}
	if _, ok := all[annotations.OOM]; !ok {
		r.Log.Warn("the user's annotations leave no space for the record", "namespace", driver.Namespace, "driver", driver.Name)
	}
	patch := map[string]any{"metadata": map[string]any{
		"uid": driver.UID, "resourceVersion": driver.ResourceVersion, "annotations": change,
	}}
	if c := record.Condition(driver); c != nil && p.condition {
		patch["status"] = map[string]any{"conditions": []*corev1.PodCondition{c}}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return driver, err
	}
	// Without validation of fields the API server needs less CPU. The types above validate.
	options := metav1.PatchOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationIgnore}
	patched, err := r.Client.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.StrategicMergePatchType, body, options, "status")
	if err != nil {
		return driver, err
	}
	return spark.PodOf(strip(patched))
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return written
	case apierrors.IsNotFound(err), job.IsReplaced(err):
		return gone
	case apierrors.IsConflict(err):
		return conflict
	case job.IsInvalid(err, "metadata.annotations"):
		return full
	case final(err):
		return refused
	}
	return failed
}

// final reports whether trying again soon does not help.
func final(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsNotFound(err)
}

// mayBeStarting reports whether the API server may have just started: it forbids calls
// until it knows all roles.
func mayBeStarting(err error) bool {
	return apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// live returns the current driver, and the space that other annotations leave. The
// driver is empty if it is gone.
func (r *recorder) live(ctx context.Context, driver spark.Pod) (live spark.Pod, space int, err error) {
	p, err := r.Client.CoreV1().Pods(driver.Namespace).Get(ctx, driver.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && p.UID != driver.UID {
		return live, 0, nil
	}
	if err != nil {
		r.metrics.errors.WithLabelValues("driver").Inc()
		return live, 0, err
	}
	space = annotations.MaxBytes
	for key, value := range p.Annotations {
		if !slices.Contains(annotations.Death, key) {
			space -= len(key) + len(value)
		}
	}
	live, _ = spark.PodOf(strip(p)) // empty if it is no driver any more
	return live, min(space, oom.Plenty), nil
}

// heap returns the heap of a driver from its ConfigMap, or 0 if it is not known.
func (r *recorder) heap(ctx context.Context, driver *corev1.Pod) int64 {
	pod, err := spark.PodOf(driver)
	if err != nil {
		return 0
	}
	properties, err := r.propertiesOf(ctx, pod)
	if err != nil && !apierrors.IsNotFound(err) {
		r.failed("configmap", err, "namespace", driver.Namespace, "configmap", pod.ConfigMap())
	}
	if properties == nil {
		return 0
	}
	return spark.DriverHeap(*properties)
}

// propertiesOf returns the properties in a driver's ConfigMap; nil if there is no
// ConfigMap, or no such file in it.
func (r *recorder) propertiesOf(ctx context.Context, driver spark.Pod) (*string, error) {
	name := driver.ConfigMap()
	if name == "" {
		return nil, nil //nolint:nilnil // there are none
	}
	found, err := r.Client.CoreV1().ConfigMaps(driver.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the ConfigMap %s/%s: %w", driver.Namespace, name, err)
	}
	if properties, ok := found.Data[spark.PropertiesFile]; ok {
		return &properties, nil
	}
	return nil, nil //nolint:nilnil // there are none
}
