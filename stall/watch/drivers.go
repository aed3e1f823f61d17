package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

type key = job.Key

// driver that is watched.
type driver struct {
	spark.Pod
	started   time.Time // its container
	track     *stall.Track
	mark      *stall.Mark // as it was told
	unwritten bool        // it does not stand so on the pod
	held      bool        // it looks stalled, and too many others do
	failed    bool        // its log could not be read the last time
	ended     bool        // it is looked at once more, for its last lines
}

// adder is what is needed of a queue.
type adder interface{ Add(k key) }

func (l *loop) watch() handler.TypedEventHandler[*corev1.Pod, key] {
	return job.Watch(
		func(p *corev1.Pod, q job.Queue) { l.see(p, q) },
		func(p *corev1.Pod, _ bool, q job.Queue) { l.ends(job.KeyOf(p), q) },
	)
}

// see a pod. One that is watched already is only begun anew with its container.
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
			if d.mark, _ = stall.ParseMark(text); d.mark == nil {
				d.mark = &stall.Mark{} // not ours: goes like ours when the driver talks
			}
		}
	}
	d.Pod, d.ended = pod, false
	if !started.Equal(d.started) || d.track.After != after {
		d.started, d.track = started, stall.NewTrack(after, stall.Behind(p), started, time.Now())
		if d.mark != nil { // of a container before, perhaps
			d.track.Resume(d.mark.Since, d.mark.Evidence.LastLine, time.Now())
		}
		q.Add(k)
	}
}

// ends: one that is marked may have talked before it ended. It is watched until
// its log was read once more.
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

// forget a driver, unless it began anew meanwhile.
func (l *loop) forget(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if d := l.drivers[k]; d != nil && d.ended {
		delete(l.drivers, k)
	}
}

// wanted drivers run, and bear the webhook's stamp. started is zero for others.
func (l *loop) wanted(p *corev1.Pod) (pod spark.Pod, after time.Duration, started time.Time) {
	text, stamped := p.Annotations[annotations.LogStallAfter]
	pod, err := spark.PodOf(p)
	if !stamped || err != nil || pod.Role != spark.Driver || p.DeletionTimestamp != nil {
		return pod, 0, started
	}
	if after, err = policy.ParseLogStall(text); err != nil {
		l.log.Debug("a stamp that the webhook did not write", "pod", client.ObjectKeyFromObject(p), "error", err)
		return pod, 0, started
	}
	if s := pod.ContainerStatus(); s != nil && s.State.Running != nil {
		started = s.State.Running.StartedAt.Time
	}
	return pod, after, started
}

// reading is what the stall watch keeps of a driver: all of it only where it is
// watched.
var reading = bounded.Reading{
	Wants: func(p *corev1.Pod) bool {
		_, err := policy.ParseLogStall(p.Annotations[annotations.LogStallAfter])
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

// longest value that is kept; ours are shorter.
const longest = 4 << 10
