package releaser

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
)

type queue = job.Queue

// tooOld is after how long no registration is left to find. Without this limit, a
// first start would look for the registration of every failed driver that still exists.
const tooOld = 24 * time.Hour

// giveUpAfter is after how long a driver is given up if it could not even be read or
// marked.
const giveUpAfter = tooOld + time.Hour

// watch keeps what is due from the object that it gets, because the object may be gone
// a moment later.
func (l *loop) watch() handler.TypedEventHandler[*corev1.Pod, key] {
	return job.Watch(func(pod *corev1.Pod, q queue) { l.see(pod, false, q) }, l.gone)
}

// gone handles a deleted pod. If a broken watch started again with a list, the pod is
// in its last known state: an engine that ran in it may have died, and nothing can
// prove that any more.
func (l *loop) gone(pod *corev1.Pod, unknown bool, q queue) {
	if driver, _, ours := l.engine(pod); ours && unknown && pod.DeletionTimestamp == nil && runs(driver) {
		l.metrics.unseen.Inc()
		l.log.Warn("an engine is gone, and its end was not seen; if it died, its registration must expire", "pod", client.ObjectKeyFromObject(pod), "uid", pod.UID)
	}
	l.see(pod, true, q)
}

// runs reports whether Spark's container runs, by the pod's status.
func runs(driver spark.Pod) bool {
	if driver.Pod == nil {
		return false
	}
	status := driver.ContainerStatus()
	return status != nil && status.State.Running != nil
}

func (l *loop) see(pod *corev1.Pod, gone bool, q queue) {
	l.lock.Lock()
	defer l.lock.Unlock()
	died, due := l.judge(pod, gone)
	if !due {
		return
	}
	k := job.KeyOf(pod)
	d, known := l.deaths[k]
	if !known {
		d = newDeath(died.At)
		l.deaths[k] = d
	}
	d.pod = pod
	if !known {
		q.Add(k)
	}
}

// judge returns when a pod died, and whether its release is due. It also tracks the
// engine if it runs. The caller holds the lock.
func (l *loop) judge(pod *corev1.Pod, gone bool) (died gateway.Death, due bool) {
	k := job.KeyOf(pod)
	_, obsolete := l.done[k]
	driver, e, ours := l.engine(pod)
	stage := gateway.NotDead
	if ours {
		died, stage = gateway.StageOf(driver, gone, l.gateway.Instance())
	}
	due = stage == gateway.Due && !obsolete && time.Since(died.At) <= tooOld
	switch {
	case !ours || stage == gateway.Released:
		obsolete = true
	case gone:
		obsolete = !due || !l.leads.Load()
	case stage == gateway.NotDead:
		obsolete = obsolete || !runs(driver)
	}
	l.track(k, driver, e, obsolete)
	return died, due
}

func newDeath(at time.Time) *death {
	return &death{at: at, pause: wait.Backoff{Duration: firstPause, Factor: 2, Jitter: 0.3, Steps: 100, Cap: longestPause}}
}

// resume continues the releases that an earlier process began, and starts to watch the
// configuration.
func (l *loop) resume(ctx context.Context, q queue) error {
	begun, running, err := l.journal.read(ctx, l.namespaces, l.log)
	if err != nil {
		return err
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, r := range begun {
		k := key{NamespacedName: r.Driver, UID: r.UID}
		if l.deaths[k] == nil {
			l.deaths[k] = newDeath(r.Death.At)
		}
		if latest := time.Now().Add(l.keep); r.CloseAt.After(latest) { // of a clock that was wrong, or another configuration
			r.CloseAt = latest
		}
		l.deaths[k].release, l.deaths[k].written, l.deaths[k].resumed = r, true, true
		q.Add(k)
	}
	for _, r := range running {
		l.restore(r)
	}
	l.leads.Store(true)
	go l.retryWhenChanged(ctx, q)
	return nil
}

// retryWhenChanged tries refused releases again when the configuration changes.
func (l *loop) retryWhenChanged(ctx context.Context, q queue) {
	known := l.gateway.Configuration()
	wait.UntilWithContext(ctx, func(context.Context) {
		now := l.gateway.Configuration()
		if now == known {
			return
		}
		known = now
		l.log.Info("the gateway's configuration changed")
		l.lock.Lock()
		defer l.lock.Unlock()
		for k, d := range l.deaths {
			if d.refused != "" {
				d.refused = ""
				q.Add(k)
			}
		}
	}, filesPause)
}

func (l *loop) death(k key) (*death, state) {
	l.lock.Lock()
	defer l.lock.Unlock()
	d := l.deaths[k]
	if d == nil {
		return nil, untried
	}
	return d, d.state
}

func (l *loop) seen(d *death) *corev1.Pod {
	l.lock.Lock()
	defer l.lock.Unlock()
	return d.pod
}

// markDone notes that a release is done, for as long as it could be due again.
func (l *loop) markDone(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	maps.DeleteFunc(l.done, func(_ key, at time.Time) bool { return time.Since(at) > tooOld })
	l.done[k] = time.Now()
	delete(l.tracked, k)
}

// untrack forgets what was seen of an engine while it ran.
func (l *loop) untrack(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.drop(k)
}

// refuse notes a refusal, and reports whether it is new.
func (l *loop) refuse(d *death, reason gateway.Reason) (news bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	news = d.refused != reason
	d.refused = reason
	return news
}

// pending returns the number of releases that are not done, and of these the number
// that are refused. It does not count a release that only waits until its sessions are
// due.
func (l *loop) pending() (all, refused float64) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, d := range l.deaths {
		if d.state == waiting {
			continue
		}
		all++
		if d.refused != "" {
			refused++
		}
	}
	return all, refused
}
