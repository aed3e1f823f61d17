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

// longAgo no registration is left to find. Without this bound a first start
// would look for one for every failed driver that was ever kept.
const longAgo = 24 * time.Hour

// forgotten is what so long after its death could not even be read or marked.
const forgotten = longAgo + time.Hour

// watch keeps what is due from the object in hand: a moment later it may be gone.
func (l *loop) watch() handler.TypedEventHandler[*corev1.Pod, key] {
	return job.Watch(func(pod *corev1.Pod, q queue) { l.see(pod, false, q) }, l.gone)
}

// gone is a pod that was deleted. Where a broken watch began anew with a list,
// this is its last known state: an engine that ran in it may have died, and
// nothing proves that any more.
func (l *loop) gone(pod *corev1.Pod, unknown bool, q queue) {
	if driver, _, ours := l.engine(pod); ours && unknown && pod.DeletionTimestamp == nil && runs(driver) {
		l.metrics.unseen.Inc()
		l.log.Warn("an engine is gone, and its end was not seen; if it died, its registration must expire", "pod", client.ObjectKeyFromObject(pod), "uid", pod.UID)
	}
	l.see(pod, true, q)
}

// runs tells whether Spark's container does, by the pod's status.
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

// judge a pod: when it died, and whether its release is due; and note what a look
// at those that live needs to know of it. It is called with the lock.
func (l *loop) judge(pod *corev1.Pod, gone bool) (died gateway.Death, due bool) {
	k := job.KeyOf(pod)
	driver, e, ours := l.engine(pod)
	dead, settled := false, false
	if ours {
		died, dead = gateway.DeathOf(driver)
		_, due = gateway.Due(driver, gone, l.gateway.Instance())
		settled = gateway.MarkOf(pod).Settles(l.gateway.Instance(), died)
	}
	_, done := l.done[k]
	due = due && !done && time.Since(died.At) <= longAgo
	needed := runs(driver) || dead
	if gone {
		needed = due && l.leads.Load()
	}
	l.note(k, driver, e, !ours || done || settled || !needed)
	return died, due
}

func newDeath(at time.Time) *death {
	return &death{at: at, pause: wait.Backoff{Duration: firstPause, Factor: 2, Jitter: 0.3, Steps: 100, Cap: longestPause}}
}

// resume what an earlier process has begun, and look at the configuration and at
// the engines that live.
func (l *loop) resume(ctx context.Context, q queue) error {
	begun, lives, err := l.journal.read(ctx, l.namespaces, l.log)
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
	for _, r := range lives {
		l.restore(r)
	}
	l.leads.Store(true)
	go l.retryWhenChanged(ctx, q)
	return nil
}

// retryWhenChanged tries again what was refused when the configuration changes.
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

func (l *loop) death(k key) *death {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.deaths[k]
}

func (l *loop) seen(d *death) *corev1.Pod {
	l.lock.Lock()
	defer l.lock.Unlock()
	return d.pod
}

func (l *loop) forget(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	delete(l.deaths, k)
}

// settle notes what is done, as long as it could be due again.
func (l *loop) settle(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	maps.DeleteFunc(l.done, func(_ key, at time.Time) bool { return time.Since(at) > longAgo })
	l.done[k] = time.Now()
	delete(l.lives, k)
}

func (l *loop) endLife(k key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.end(k)
}

// keeps notes whether a release only waits until sessions are due.
func (l *loop) keeps(d *death, keeps bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	d.keeps = keeps
}

// refuse notes a refusal, and says whether it is news.
func (l *loop) refuse(d *death, reason gateway.Reason) (news bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	news = d.refused != reason
	d.refused = reason
	return news
}

// pending releases, and of these the refused. One that only waits until sessions
// are due is none.
func (l *loop) pending() (all, refused float64) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, d := range l.deaths {
		if d.keeps {
			continue
		}
		all++
		if d.refused != "" {
			refused++
		}
	}
	return all, refused
}
