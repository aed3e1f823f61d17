package recorder

import (
	"context"
	"encoding/json"
	"errors"
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
	// The field manager of the record.
	fieldManager = "spark-vitals-recorder"
	// Attempts to write before the next ones wait, because others change the pod too.
	attempts = 5
)

var (
	// errGone means that the driver is gone, or another one has its name.
	errGone = errors.New("the driver is gone")
	// errRefused means that the write is not allowed, and that this may last.
	errRefused = errors.New("the write is refused")
	// errUnlisted means that the pods of its namespace are not listed yet.
	errUnlisted = errors.New("the namespace's pods are not listed yet")
	// errBacklog means that the deaths are old, and others are written first.
	errBacklog = errors.New("old deaths wait, to limit the rate of writes")
)

// write writes facts on the driver of their application, or reports them without it. An
// error means that they must be written again. Facts are reported once they are
// written, or if writing takes long; the first replica to report counts them.
func (r *recorder) write(ctx context.Context, app application, facts []fact) error {
	if !r.recordsIn(app.namespace) {
		return nil
	}
	// One watch returns all pods in order, so the cache knew the driver before its
	// executors died.
	driver := app.among(r.podsOf(app))
	if driver.Pod != nil && !r.records(driver) {
		return nil
	}
	facts = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return !f.IsDeath() && outlived(driver, &f.Termination) })
	before := r.read(driver)
	if news := r.news(before, facts); len(news) > 0 && !slices.ContainsFunc(news, r.recent) && !r.backlog.Allow() {
		return errBacklog
	}
	r.measure(ctx, before, facts)
	certain, doubtful := split(facts)
	record, err := before, errGone
	if driver.Pod != nil {
		record, err = r.writeOn(ctx, &driver, certain)
	}
	if err == nil || errors.Is(err, errGone) {
		proven, unknown := r.proven(ctx, record, doubtful)
		if unknown != nil && r.patient(app) {
			return unknown // report nothing that may be corrected at once
		}
		if len(proven) > 0 {
			certain = append(certain, proven...)
			if err == nil {
				record, err = r.writeOn(ctx, &driver, proven)
			}
		}
	}
	certain = slices.DeleteFunc(latest(certain), func(f fact) bool {
		stands := len(r.news(before, []fact{f})) > 0 || record.Holds(&f.Termination) || record.Unknowable(&f.Termination)
		return !r.recent(f) || !stands || !f.IsDeath()
	})
	r.rememberEnds(record, certain)
	switch {
	case errors.Is(err, errGone):
		for _, f := range certain {
			r.tellWithoutDriver(f)
		}
		return nil
	case err == nil, errors.Is(err, errRefused), !r.patient(app):
		r.tell(driver, &record, certain, err == nil)
	}
	return err
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

// patient reports whether a failure for an application may soon succeed.
func (r *recorder) patient(app application) bool {
	return !r.ending.Load() && r.queue.NumRequeues(app) < patience
}

// news returns the facts that the record does not have.
func (r *recorder) news(record oom.Record, facts []fact) (news []fact) {
	for _, f := range facts {
		if after := record; len(after.Add(f.Termination)) > 0 {
			news = append(news, f)
		}
	}
	return news
}

// recent reports whether a death is reported. Events live an hour, so nothing would
// show that an older death was reported.
func (r *recorder) recent(f fact) bool { return r.now().Sub(f.At.Time) < oldest }

// measure replaces estimates in new facts.
func (r *recorder) measure(ctx context.Context, record oom.Record, facts []fact) {
	for i := range facts {
		if f := &facts[i]; r.ReadConfigMaps && f.Estimated && f.Role == spark.Driver && len(r.news(record, facts[i:i+1])) > 0 {
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
			all = append(all, f)
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

// writeOn writes all facts on a driver that are not there yet, in one patch. Afterwards
// driver is what was written. The record is the one on the driver, or the one that
// could not be written.
func (r *recorder) writeOn(ctx context.Context, driver *spark.Pod, facts []fact) (record oom.Record, err error) {
	room, condition := oom.Plenty, true
	for range attempts {
		record = r.read(*driver)
		own := oom.Terminations(oom.Evidence{Pod: driver.Pod})
		if !slices.ContainsFunc(own, func(t oom.Termination) bool { return t.Role == spark.Driver && t.IsSparks() }) {
			record.Driver = nil // from a restored or forged copy: a living driver has not died
		}
		news := record.Add(terminations(facts)...)
		if driver.Annotations[annotations.State] != "" { // true or forged: the pod decides
			record.Add(own...)
		}
		if len(news) == 0 && driver.Annotations[annotations.State] == string(record.State(*driver)) && !r.lacksCondition(*driver, &record) {
			r.turns.found(driver.UID, &record, facts, r.now())
			return record, nil
		}
		sawExecutors(&record, r.podsOf(applicationOf(*driver)))
		var written spark.Pod
		if written, err = r.patch(ctx, *driver, &record, room, condition); err == nil {
			r.conditions.Add(conditionKey(*driver, &record), r.now())
			*driver = written
			r.turns.wrote(driver.UID, news)
			r.wrote(news)
			return record, nil
		}
		outcome := outcomeOf(err)
		r.metrics.writes.WithLabelValues(outcome).Inc()
		switch outcome {
		case "gone":
			return record, errGone
		case "refused":
			if condition && record.Condition(*driver) != nil { // the annotations are worth more than both or none
				r.Log.Warn("the condition of a driver's death is refused, and the record is written without it", "namespace", driver.Namespace, "driver", driver.Name, "error", err)
				condition = false
				continue
			}
			return record, fmt.Errorf("writing the record of %s/%s: %w: %w", driver.Namespace, driver.Name, errRefused, err)
		case "error":
			return record, fmt.Errorf("writing the record of %s/%s: %w", driver.Namespace, driver.Name, err)
		}
		live, left, err := r.live(ctx, *driver)
		if err != nil {
			return record, err
		}
		*driver, room = live, left
	}
	return record, fmt.Errorf("writing the record of %s/%s: others changed the pod %d times meanwhile", driver.Namespace, driver.Name, attempts)
}

func (r *recorder) wrote(news []oom.Termination) {
	r.metrics.writes.WithLabelValues("written").Inc()
	for _, t := range news {
		if lag := r.now().Sub(t.At.Time); lag < oldest {
			r.metrics.lag.Observe(lag.Seconds())
		}
	}
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

// patch patches the driver's annotations and its condition through its status, because
// that right does not reach its spec. UID and resourceVersion make sure that it is the
// pod that was read. An annotation that is no longer true, or does not fit, is removed.
// It is a strategic merge patch, as the kubelet's are, because a JSON merge patch would
// replace all conditions.
func (r *recorder) patch(ctx context.Context, driver spark.Pod, record *oom.Record, room int, condition bool) (spark.Pod, error) {
	all, change := record.Annotations(driver, room), map[string]any{}
	for _, key := range annotations.Death {
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
	if c := record.Condition(driver); c != nil && condition {
		patch["status"] = map[string]any{"conditions": []*corev1.PodCondition{c}}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return driver, err
	}
	p, err := r.Client.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if err != nil {
		return driver, err
	}
	return spark.PodOf(strip(p))
}

func outcomeOf(err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return "gone"
	case apierrors.IsConflict(err):
		return "conflict"
	case job.IsReplaced(err):
		return "gone"
	case job.IsInvalid(err, "metadata.annotations"):
		return "full"
	case final(err):
		return "refused"
	}
	return "error"
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

// live returns the current driver, and the space that other annotations leave.
func (r *recorder) live(ctx context.Context, driver spark.Pod) (spark.Pod, int, error) {
	p, err := r.Client.CoreV1().Pods(driver.Namespace).Get(ctx, driver.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && p.UID != driver.UID {
		return spark.Pod{}, 0, errGone
	}
	if err != nil {
		r.metrics.errors.WithLabelValues("driver").Inc()
		return spark.Pod{}, 0, fmt.Errorf("reading the driver %s/%s: %w", driver.Namespace, driver.Name, err)
	}
	room := annotations.MaxBytes
	for key, value := range p.Annotations {
		if !slices.Contains(annotations.Death, key) {
			room -= len(key) + len(value)
		}
	}
	pod, err := spark.PodOf(strip(p))
	if err != nil {
		return spark.Pod{}, 0, errGone
	}
	return pod, min(room, oom.Plenty), nil
}

// heap returns the heap of a driver from its ConfigMap, or 0 if it is not known.
func (r *recorder) heap(ctx context.Context, driver *corev1.Pod) int64 {
	pod, err := spark.PodOf(driver)
	if err != nil || pod.ConfigMap() == "" {
		return 0
	}
	name := pod.ConfigMap()
	found, err := r.Client.CoreV1().ConfigMaps(driver.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0
	}
	if err != nil {
		r.failed("configmap", err, "namespace", driver.Namespace, "configmap", name)
		return 0
	}
	properties, ok := found.Data[spark.PropertiesFile]
	if !ok {
		return 0
	}
	return spark.DriverHeap(properties)
}
