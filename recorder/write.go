package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// FieldManager of the record.
	fieldManager = "spark-vitals-recorder"
	// The API server's limit for all annotations of an object.
	maxAnnotations = 256 << 10
	// Attempts to write until the next ones wait: others change the pod, too.
	attempts = 5
)

// errGone: the driver is no longer there, or is another one of its name.
var errGone = errors.New("the driver is gone")

// write facts on the driver of their application, or tell of them without it.
// An error means that they are to be written again.
func (r *recorder) write(ctx context.Context, app application, facts []fact) error {
	// One watch tells of all pods in their order, so the cache knew the driver
	// before its executors died.
	driver := app.among(r.podsOf(app))
	if driver.Pod != nil && !r.records(driver) {
		return nil
	}
	facts = r.settle(ctx, driver, facts)
	if driver.Pod != nil {
		if err := r.writeOn(ctx, driver, facts); !errors.Is(err, errGone) {
			return err
		}
	}
	for _, f := range facts {
		r.tellWithoutDriver(ctx, f)
	}
	return nil
}

func (r *recorder) records(driver spark.Pod) bool {
	return r.Everywhere || driver.Annotations[annotations.Inject] != "disabled"
}

// among pods the application's driver; the oldest one, should a stranger have
// made another.
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

// settle what is doubtful and what is only estimated, of facts that are news. Of
// one termination the last that is known remains.
func (r *recorder) settle(ctx context.Context, driver spark.Pod, facts []fact) (settled []fact) {
	record := r.read(driver)
	for _, f := range facts {
		before := record
		if len(record.Add(f.Termination)) == 0 {
			continue
		}
		if f.doubtful && !r.killing(ctx, f) {
			record = before
			continue
		}
		if r.ReadConfigMaps && f.Estimated && f.Role == spark.Driver {
			f.SetHeap(r.heap(ctx, f.pod))
		}
		settled = append(slices.DeleteFunc(settled, func(s fact) bool { return s.key() == f.key() }), f)
	}
	return settled
}

// read the record of a driver. What a stranger wrote there is not kept.
func (r *recorder) read(driver spark.Pod) oom.Record {
	if driver.Pod == nil {
		return oom.Record{}
	}
	record, err := oom.Read(driver.Annotations)
	if err != nil {
		r.Log.Warn("the record cannot be read and begins anew", "namespace", driver.Namespace, "driver", driver.Name, "error", err)
	}
	return record
}

// writeOn a driver all facts that do not stand there yet, in one patch.
func (r *recorder) writeOn(ctx context.Context, driver spark.Pod, facts []fact) (err error) {
	room := oom.Plenty
	for range attempts {
		record := r.read(driver)
		news := record.Add(terminations(facts)...)
		if len(news) == 0 && driver.Annotations[annotations.State] == string(record.State()) {
			return nil
		}
		r.sawExecutors(&record, driver)
		all := record.Annotations(driver, room)
		if err = r.patch(ctx, driver, all); err == nil {
			if _, ok := all[annotations.OOM]; !ok {
				r.Log.Warn("the user's annotations leave no room for the record", "namespace", driver.Namespace, "driver", driver.Name)
			}
			r.tell(ctx, driver, &record, facts, news)
			return nil
		}
		outcome := outcomeOf(err)
		r.metrics.writes.WithLabelValues(outcome).Inc()
		if outcome == "gone" {
			return errGone
		}
		if outcome == "error" {
			return fmt.Errorf("writing the record of %s/%s: %w", driver.Namespace, driver.Name, err)
		}
		if driver, room, err = r.live(ctx, driver); err != nil {
			return err
		}
	}
	return fmt.Errorf("writing the record of %s/%s: others changed the pod %d times meanwhile", driver.Namespace, driver.Name, attempts)
}

func terminations(facts []fact) (all []oom.Termination) {
	for _, f := range facts {
		all = append(all, f.Termination)
	}
	return all
}

// sawExecutors notes how many executors there were.
func (r *recorder) sawExecutors(record *oom.Record, driver spark.Pod) {
	for _, p := range r.podsOf(applicationOf(driver)) {
		if id, ok := (spark.Pod{Pod: p, Role: spark.Executor}).ExecutorID(); ok && p.Labels[spark.RoleLabel] == string(spark.Executor) {
			record.SawExecutor(id)
		}
	}
}

// patch the driver's annotations, by its status: that right does not reach its
// spec. UID and resourceVersion make sure that it is the pod that was read.
func (r *recorder) patch(ctx context.Context, driver spark.Pod, all map[string]string) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": driver.UID, "resourceVersion": driver.ResourceVersion, "annotations": all,
	}})
	if err != nil {
		return err
	}
	_, err = r.Client.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	return err
}

func outcomeOf(err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return "gone"
	case apierrors.IsConflict(err):
		return "conflict"
	case hasCause(err, "metadata.uid"):
		return "gone"
	case hasCause(err, "metadata.annotations"):
		return "full"
	}
	return "error"
}

// hasCause tells whether the API server found a field invalid.
func hasCause(err error, field string) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsInvalid(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == field })
}

// live is the driver as it is now, and the room that others' annotations leave
// there.
func (r *recorder) live(ctx context.Context, driver spark.Pod) (spark.Pod, int, error) {
	p, err := r.Client.CoreV1().Pods(driver.Namespace).Get(ctx, driver.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && p.UID != driver.UID {
		return spark.Pod{}, 0, errGone
	}
	if err != nil {
		r.metrics.errors.WithLabelValues("driver").Inc()
		return spark.Pod{}, 0, fmt.Errorf("reading the driver %s/%s: %w", driver.Namespace, driver.Name, err)
	}
	room := maxAnnotations
	for key, value := range p.Annotations {
		if !annotations.IsRecord(key) {
			room -= len(key) + len(value)
		}
	}
	pod, err := spark.PodOf(p)
	if err != nil {
		return spark.Pod{}, 0, errGone
	}
	return pod, min(room, oom.Plenty), nil
}

// heap of a driver as its ConfigMap says, 0 where that is not known.
func (r *recorder) heap(ctx context.Context, driver *corev1.Pod) int64 {
	name := spark.Pod{Pod: driver}.ConfigMap()
	if name == "" {
		return 0
	}
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
