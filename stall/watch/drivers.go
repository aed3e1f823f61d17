package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

type key = job.Key

// driver is a driver that is watched. Its fields are changed with the loop's lock. The
// worker that has its key reads mark, unwritten and its track's last line without the
// lock, because no one else changes them once the driver is in the map.
type driver struct {
	spark.Pod
	started   time.Time // when its container started
	track     *stall.Track
	mark      *annotations.StallMark // as it was reported
	unwritten bool                   // the pod does not have it yet
	held      bool                   // it looks stalled, and too many others do
	failed    bool                   // its log could not be read at the last look
	tasks     *driverui.Tasks        // at the last look at a silent log; of the worker that has the driver
	silentUI  time.Time              // until when it is not asked for its tasks
	ended     bool                   // its log is read once more, for the last lines
	heap      *heap
}

// adder is the part of a queue that is used.
type adder interface{ Add(k key) }

func (l *loop) watch() handler.TypedEventHandler[*corev1.Pod, key] {
	return job.Watch(
		func(p *corev1.Pod, q job.Queue) { l.see(p, q) },
		func(p *corev1.Pod, _ bool, q job.Queue) { l.ends(job.KeyOf(p), q) },
	)
}

// see handles a pod. A driver that is watched already starts again only with a new
// container.
func (l *loop) see(p *corev1.Pod, q adder) {
	k := job.KeyOf(p)
	pod, after, started := l.wanted(p)
	if started.IsZero() {
		l.ends(k, q)
		return
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	d, known := l.drivers[k]
	if !known {
		d = &driver{}
		l.drivers[k] = d
		if text, ok := p.Annotations[annotations.Stalled]; ok {
			if d.mark, _ = annotations.ReadStallMark(text); d.mark == nil {
				d.mark = &annotations.StallMark{} // a foreign mark: it is removed when the driver logs
			}
		}
	}
	d.Pod, d.ended = pod, false
	if !started.Equal(d.started) || d.track.After != after {
		d.started, d.track = started, stall.NewTrack(after, stall.Behind(p), started, time.Now())
		d.heap = newHeap(after, d.mark, started)
		if d.mark != nil && !d.mark.IsOfHeap() { // perhaps of an earlier container
			d.track.Resume(d.mark.Since, d.mark.Evidence.LastLine, time.Now())
		}
		q.Add(k)
	}
}

// ends handles a pod that ended or is gone. A marked driver may have logged before it
// ended, so it is watched until its log was read once more.
func (l *loop) ends(k key, q adder) {
	l.lock.Lock()
	defer l.lock.Unlock()
	d := l.drivers[k]
	if d == nil || d.mark == nil && !d.unwritten {
		delete(l.drivers, k)
		return
	}
	d.ended = true
	d.track.AskAt(time.Now())
	q.Add(k)
}

// remove removes a driver, unless it has started again.
func (l *loop) remove(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if d := l.drivers[k]; d != nil && d.ended {
		delete(l.drivers, k)
	}
}

// wanted returns a driver that runs and has the webhook's stamp. started is zero for
// other pods.
func (l *loop) wanted(p *corev1.Pod) (pod spark.Pod, after time.Duration, started time.Time) {
	text, stamped := p.Annotations[annotations.LogStallAfter]
	pod, err := spark.PodOf(p)
	if !stamped || err != nil || pod.Role != spark.Driver || p.DeletionTimestamp != nil {
		return pod, 0, started
	}
	if after, err = annotations.ParseLogStall(text); err != nil {
		l.log.Debug("a stamp that the webhook did not write", "pod", client.ObjectKeyFromObject(p), "error", err)
		return pod, 0, started
	}
	if s := pod.ContainerStatus(); s != nil && s.State.Running != nil {
		started = s.State.Running.StartedAt.Time
	}
	return pod, after, started
}

// reading is what the stall watch keeps of a driver. It keeps all of it only if the
// driver is watched.
var reading = bounded.Reading{
	Wants: func(p *corev1.Pod) bool {
		_, err := annotations.ParseLogStall(p.Annotations[annotations.LogStallAfter])
		return err == nil
	},
	Annotation: func(_ spark.Role, key, value string) (string, bool) {
		switch {
		case key != annotations.LogStallAfter && key != annotations.Stalled:
			return "", false
		case len(value) > longest:
			return "too long", true
		}
		return value, true
	},
}

// longest is the longest annotation that is kept; those of spark-vitals are shorter.
const longest = 4 << 10
