package recorder

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/spark"
)

const (
	// planTimeout is how long a death waits for what a plan depends on. A driver makes its
	// first page in 0.4 s, and Spark creates the next executor after 1 to 2 s (3.5.9).
	planTimeout = 800 * time.Millisecond
	// planPause is how long a driver is not asked again for it. It is at least planPauses
	// times as long as the driver took to answer, and twice as long after each failure, up to
	// maxPauses times. An answer counts for deaths that were seen within planPause of it:
	// the next job may need other things.
	planPause, planPauses = 2 * time.Second, 10
	// prepareWait is how long after an executor was first seen to run its driver is prepared.
	// Most often its first job has begun then.
	prepareWait = 5 * time.Second
	// planLasts is how long an answer counts if a plan cannot be written at once.
	planLasts = 20 * time.Second
	// planRetries is how often a plan waits for a slow driver, planPause longer each time.
	planRetries = 4
)

// planBasis is what a driver's UI said, on which a plan depends.
type planBasis struct {
	settings *spark.Settings // nil if it did not say them
	barrier  *bool           // whether a job has a barrier stage; nil if it did not say it
	asked    time.Time
}

func (b *planBasis) isComplete() bool { return b.settings != nil && b.barrier != nil }

// planQuestion is the question to one driver for the basis of its plans.
type planQuestion struct {
	due      time.Time      // when it may be asked again
	answered done           // of the last one
	failures int            // in a row
	basis    planBasis      // the newest
	last     planBasis      // the newest that is complete
	without  []driverui.Job // those known to have no barrier stage
}

// isAsked reports whether the question is asked now.
func (q *planQuestion) isAsked() bool {
	if q.answered == nil {
		return false
	}
	select {
	case <-q.answered:
		return false
	default:
		return true
	}
}

// askForPlan asks a driver that has said its settings for what a plan depends on, if no
// answer counts for deaths that were seen at a time. driver returns its pod, and is called
// only if it is asked.
func (k *knowledge) askForPlan(ctx context.Context, uid types.UID, seen time.Time, driver func() spark.Pod, now time.Time) done {
	known := k.knows(uid)
	if known == nil || known.settings.Load() == nil {
		return nil
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	q := &known.plan
	if q.isAsked() {
		return q.answered
	}
	if q.basis.isComplete() && !q.basis.asked.Before(seen.Add(-planPause)) || now.Before(q.due) {
		return nil
	}
	pod := driver()
	if pod.Pod == nil {
		return nil
	}
	asked := k.asking.inBackground(pod.Namespace, func() {
		began := time.Now()
		basis := k.basisOf(context.WithoutCancel(ctx), known, pod, now)
		known.planSays(basis, max(planPause, planPauses*time.Since(began)))
	})
	if asked != nil {
		q.answered, q.due = asked, now.Add(planPause)
	}
	return asked
}

// basisOf asks a driver for what a plan depends on. What it says first is kept at once.
func (k *knowledge) basisOf(ctx context.Context, known *known, driver spark.Pod, now time.Time) planBasis {
	basis := planBasis{asked: now}
	var both sync.WaitGroup
	both.Go(func() {
		if s, err := k.ui.Settings(ctx, driver); err == nil {
			basis.settings = s
			known.settings.Store(s)
		}
	})
	both.Go(func() {
		b, err := k.ui.Barrier(ctx, driver, known.withoutBarrier())
		if err == nil {
			basis.barrier = &b.Seen
		}
		known.mutex.Lock()
		defer known.mutex.Unlock()
		known.plan.without = b.Without
	})
	both.Wait()
	return basis
}

// withoutBarrier returns the jobs that are known to have no barrier stage.
func (k *known) withoutBarrier() []driverui.Job {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.plan.without
}

// planSays notes what a driver said for a plan, and how long it is not asked again. That
// it has had a barrier stage counts for its life.
func (k *known) planSays(basis planBasis, pause time.Duration) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	q := &k.plan
	if old := q.basis.barrier; old != nil && *old {
		basis.barrier = old
	}
	if q.failures++; basis.isComplete() {
		q.failures, q.last = 0, basis
	}
	q.basis, q.due = basis, basis.asked.Add(pause<<min(q.failures, maxPauses))
}

// basis returns what a plan because of deaths depends on that were seen at a time, as far
// as the driver said it since.
func (k *knowledge) basis(driver types.UID, seen, now time.Time) planBasis {
	known := k.knows(driver)
	if known == nil {
		return planBasis{}
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	basis := known.plan.basis
	if basis.asked.Before(seen.Add(-planPause)) || now.Sub(basis.asked) > planLasts {
		return planBasis{}
	}
	return basis
}

// lastBasis returns what a driver has ever said on which a plan depends.
func (k *knowledge) lastBasis(driver types.UID) planBasis {
	known := k.knows(driver)
	if known == nil {
		return planBasis{}
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	last := known.plan.last
	last.settings = cmp.Or(last.settings, known.settings.Load())
	last.barrier = cmp.Or(last.barrier, known.plan.basis.barrier)
	return last
}

// mayStillSay reports whether a driver may say later what a plan depends on: it has
// answered before.
func (k *knowledge) mayStillSay(driver types.UID) bool { return k.settingsOf(driver) != nil }

// isUnprepared reports whether a driver is known, and was never asked for what a plan
// depends on. It is asked once soon after its first executor began. If one dies later, it
// answers in time: it has made such pages before, and most of its jobs are known.
func (k *knowledge) isUnprepared(driver types.UID) bool {
	known := k.knows(driver)
	if known == nil {
		return false
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	return known.plan.answered == nil
}

// seenLast returns when the newest of some facts was seen that may lead to a plan.
func seenLast(facts []*fact) (last time.Time) {
	for _, f := range facts {
		if f.mayBeRemedied() && f.seen.After(last) {
			last = f.seen
		}
	}
	return last
}

// unplanned are facts whose plan waits for the driver's UI.
type unplanned struct {
	facts []fact
	tries int
	due   time.Time
}

// postpone has the plan made later that follows from facts about executors of a driver.
func (r *recorder) postpone(driver spark.Pod, facts []fact, tries int) {
	u := &unplanned{facts: facts, tries: tries, due: r.now().Add(planPause << tries)}
	if before, ok := r.unplanned.Get(driver.UID); ok && tries == 0 {
		before := before.(*unplanned)
		u = &unplanned{facts: latest(slices.Concat(before.facts, facts)), tries: before.tries, due: before.due}
	}
	r.unplanned.Add(driver.UID, u)
	r.queue.AddAfter(applicationOf(driver), u.due.Sub(r.now()))
}

// planAgain makes the plan of a driver that waits for its UI. The last time it does so
// whatever the UI said.
func (r *recorder) planAgain(ctx context.Context, driver spark.Pod) {
	waiting, ok := r.unplanned.Get(driver.UID)
	if !ok {
		return
	}
	u := waiting.(*unplanned)
	if r.now().Before(u.due) {
		r.queue.AddAfter(applicationOf(driver), u.due.Sub(r.now())) // the queue forgets it when facts come
		return
	}
	r.unplanned.Remove(driver.UID)
	if _, ended := driver.End(); ended {
		record := r.read(driver)
		r.plan(&result{driver: driver, record: record}, u.facts, true)
		return
	}
	timely, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	r.knowledge.askForPlan(ctx, driver.UID, seenLast(pointers(u.facts)), func() spark.Pod { return driver }, r.now()).within(timely)
	last, planned := u.tries >= planRetries, false
	err := r.changePlans(ctx, driver, func(w *result) { planned = r.plan(w, u.facts, last) })
	if !last && (err != nil || !planned) {
		r.postpone(driver, u.facts, u.tries+1)
	}
}

func pointers(facts []fact) (all []*fact) {
	for i := range facts {
		all = append(all, &facts[i])
	}
	return all
}
