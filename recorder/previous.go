package recorder

import (
	"context"
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// previous remembers how drivers ended that a SparkApplication owns. An operator that
// restarts an application deletes the dead driver and makes another one. The recorder
// then writes on the new driver how the last one ended, if this replica saw it.
type previous struct{ ends *lru.Cache }

// maxPrevious is how many owners are remembered, with some 2 kB each.
const maxPrevious = 1024

func newPrevious() previous { return previous{lru.New(maxPrevious)} }

// ownedBy returns the SparkApplication that owns a driver.
func ownedBy(driver *corev1.Pod) (owner types.NamespacedName, ok bool) {
	for _, o := range sparkApplications(driver) {
		return types.NamespacedName{Namespace: o.Namespace, Name: string(o.UID)}, true
	}
	return owner, false
}

// remember remembers how a driver ended, unless a later end is known.
func (p *previous) remember(driver *corev1.Pod, end oom.PreviousDriver) {
	owner, ok := ownedBy(driver)
	if !ok || end.State == "" {
		return
	}
	if known, ok := p.ends.Get(owner); ok && known.(oom.PreviousDriver).At.After(end.At.Time) {
		return
	}
	end.Driver, end.UID, end.Message = driver.Name, driver.UID, bounded.Text(end.Message)
	p.ends.Add(owner, end)
}

// before returns how the last driver of a running driver's owner ended.
func (p *previous) before(driver *corev1.Pod) (end oom.PreviousDriver, ok bool) {
	owner, owned := ownedBy(driver)
	if !owned || driver.Annotations[annotations.State] != "" {
		return end, false
	}
	known, ok := p.ends.Get(owner)
	if !ok {
		return end, false
	}
	end = known.(oom.PreviousDriver)
	return end, end.UID != driver.UID && !driver.CreationTimestamp.Before(&end.At)
}

// sawDriver remembers a driver that has a record of its own end. For a running driver
// it reports whether the annotation about the previous one is missing.
func (r *recorder) sawDriver(driver spark.Pod) (lacks bool) {
	a := driver.Annotations
	if a[annotations.State] != "" {
		if record := r.read(driver); record.Driver != nil {
			r.previous.remember(driver.Pod, oom.PreviousDriver{State: oom.State(a[annotations.State]), Reason: a[annotations.Reason], Message: a[annotations.Message], At: record.Driver.At})
		}
		return false
	}
	_, has := a[annotations.Previous]
	_, known := r.previous.before(driver.Pod)
	return known && !has
}

// rememberEnds remembers the ends of drivers among deaths that were written or
// reported.
func (r *recorder) rememberEnds(record oom.Record, facts []fact) {
	for _, f := range facts {
		pod, err := spark.PodOf(f.pod)
		if err != nil || f.Role != spark.Driver || !f.IsSparks() {
			continue
		}
		record.Add(f.Termination)
		all := record.Annotations(pod, oom.Plenty)
		r.previous.remember(f.pod, oom.PreviousDriver{State: oom.State(all[annotations.State]), Reason: all[annotations.Reason], Message: all[annotations.Message], At: f.At})
	}
}

// carry writes on the driver of an application how the last driver of its owner ended.
// If it does not fit, or is refused, it is left out, because it is not part of this
// driver's record.
func (r *recorder) carry(ctx context.Context, app application) outcome {
	pods := r.podsOf(app)
	driver := app.among(pods)
	if driver.Pod == nil || !r.recordsIn(app.namespace) || !r.records(driver) {
		return dropped
	}
	r.look(ctx, app, driver, pods)
	if !r.sawDriver(driver) {
		return dropped
	}
	end, _ := r.previous.before(driver.Pod)
	text, _ := json.Marshal(end) // plain data: it cannot fail
	body, _ := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": driver.UID, "annotations": map[string]any{annotations.Previous: strings.ToValidUTF8(string(text), "?")},
	}})
	_, err := r.Client.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if err == nil {
		return written
	}
	r.failed("record", err, "namespace", driver.Namespace, "driver", driver.Name)
	switch outcome := outcomeOf(err); outcome {
	case full, refused:
		return dropped
	default:
		return outcome
	}
}
