package releaser

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
)

// tracked is what was seen of an engine while it ran. If no registration is left after
// its death, this is the proof.
type tracked struct {
	engine   gateway.Engine
	runs     bool                   // by the last status of the pod
	seen     bool                   // by this process's watch; false if only the journal has it
	found    []gateway.Registration // at the last look that found any
	missed   int                    // looks since then
	written  bool                   // to the journal
	warned   bool                   // that it did not fit into the journal
	obsolete bool                   // the journal's entry must be removed
}

// Pauses between two looks at running engines. A look takes a small share of the time,
// however long it takes.
const (
	firstLook = time.Second // after the start, when the list of pods has come
	lookPause = 10 * time.Second
	lookShare = 10
)

// maxMissed is after how many looks without its registration a running engine is written
// down. An engine that is about to end misses one look.
const maxMissed = 2

// maxWritten limits the running engines in the journal, so that releases still fit, even if
// ZooKeeper loses the registrations of all engines at once.
const maxWritten = 400

// track keeps what a look must know of a pod. The caller holds the lock.
func (l *loop) track(k key, driver spark.Pod, e gateway.Engine, obsolete bool) {
	known := l.tracked[k]
	switch {
	case obsolete:
		l.drop(k)
	case runs(driver) && len(e.Addresses) > 0:
		if known == nil || !sameEngine(known.engine, e) { // the proof is for these keys and this address
			known = &tracked{engine: e, written: known != nil && known.written}
			l.tracked[k] = known
		}
		known.runs, known.seen, known.obsolete = true, true, false
	case known != nil:
		known.runs, known.seen = false, true
	}
}

// drop removes an engine that need not be tracked any more. The caller holds the lock.
func (l *loop) drop(k key) {
	switch known := l.tracked[k]; {
	case known == nil:
	case known.written:
		known.obsolete, known.runs, known.seen = true, false, true // the next look removes it
	default:
		delete(l.tracked, k)
	}
}

func sameEngine(a, b gateway.Engine) bool {
	return a.Reference == b.Reference && a.Application == b.Application && a.Namespace == b.Namespace && slices.Equal(a.Addresses, b.Addresses)
}

// foundWhileRunning returns the registrations that an engine had while it ran.
func (l *loop) foundWhileRunning(k key, e gateway.Engine) []gateway.Registration {
	l.lock.Lock()
	defer l.lock.Unlock()
	if known := l.tracked[k]; known != nil && sameEngine(known.engine, e) {
		return known.found
	}
	return nil
}

// standBy looks at running engines in every replica, so that what was seen outlives
// the leader. A drained node takes the leader with it, and also engines. Their
// registrations are gone when the next replica leads.
func (l *loop) standBy(ctx context.Context, pods cache.Informer) error {
	note := func(pod *corev1.Pod, gone bool) {
		l.lock.Lock()
		defer l.lock.Unlock()
		l.judge(pod, gone)
	}
	_, err := pods.AddEventHandler(job.Handler(
		func(pod *corev1.Pod) { note(pod, false) },
		func(pod *corev1.Pod, _ bool) { note(pod, true) },
	))
	if err == nil {
		l.keepLooking(ctx)
	}
	return err
}

// keepLooking looks at running engines again and again, one look at a time.
func (l *loop) keepLooking(ctx context.Context) {
	looked, failed := false, false
	for pause := firstLook; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		begun := time.Now()
		engines, registered, err := l.look(ctx)
		switch took := time.Since(begun); {
		case ctx.Err() != nil:
		case err == nil && engines > 0 && !looked:
			looked = true
			l.log.Info("looked at the registrations of running engines for the first time", "engines", engines, "registered", registered, "took", took)
		case err != nil && !failed:
			l.log.Warn("cannot read the registrations of running engines; a registration that expires meanwhile leaves no proof", "error", err)
		case err == nil && failed:
			l.log.Info("can read the registrations of running engines again", "took", took)
		}
		if failed = err != nil; failed {
			l.metrics.lookFailures.Inc()
		}
		pause = max(lookPause, lookShare*time.Since(begun))
		if err := l.syncJournal(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("running engines without a registration are not in the journal yet", "error", err)
		}
	}
}

// look reads the registrations of all running engines, if there are any. It returns how
// many run, and how many of these are registered.
func (l *loop) look(ctx context.Context) (running, registered int, err error) {
	keys, engines := l.running()
	if len(keys) == 0 {
		return 0, 0, nil
	}
	found, err := l.gateway.Look(ctx, engines)
	if err != nil {
		return 0, 0, err
	}
	l.saw(keys, engines, found)
	for _, f := range found {
		registered += min(len(f), 1)
	}
	return len(keys), registered, nil
}

func (l *loop) running() (keys []key, engines []gateway.Engine) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for k, known := range l.tracked {
		if known.runs {
			keys, engines = append(keys, k), append(engines, known.engine)
		}
	}
	return keys, engines
}

func (l *loop) saw(keys []key, engines []gateway.Engine, found [][]gateway.Registration) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for i, k := range keys {
		known := l.tracked[k]
		switch {
		case known == nil || !sameEngine(known.engine, engines[i]):
		case len(found[i]) == 0:
			known.missed++
		case gateway.Bounded(found[i]):
			known.found, known.missed = found[i], 0
		}
	}
}

// trackedThat returns the engines for which something holds.
func (l *loop) trackedThat(holds func(*tracked) bool) (keys []key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for k, known := range l.tracked {
		if holds(known) {
			keys = append(keys, k)
		}
	}
	return keys
}

// exists reads a pod that the watch has not shown, or that may have ended unseen. If
// the pod is gone, its engine is dropped, because nothing can prove how it ended.
func (l *loop) exists(ctx context.Context, k key) (exists bool, err error) {
	pod := &corev1.Pod{}
	err = l.api.Get(ctx, k.NamespacedName, pod)
	if apierrors.IsNotFound(err) || err == nil && pod.UID != k.UID {
		l.lock.Lock()
		defer l.lock.Unlock()
		if l.deaths[k] == nil {
			l.drop(k)
		}
		return false, nil
	}
	return err == nil, err
}

// syncJournal keeps the running engines in the journal, in the replica that leads. It
// writes an engine when its registration is gone and it still runs, because the death
// may come much later. It removes an engine that is obsolete or registered again. It
// removes first, to make space.
func (l *loop) syncJournal(ctx context.Context) error {
	if !l.leads.Load() {
		return nil
	}
	for _, k := range l.trackedThat((*tracked).isUnseen) {
		if _, err := l.exists(ctx, k); err != nil {
			return err
		}
	}
	for _, k := range l.trackedThat((*tracked).isRemovable) {
		if err := l.journal.remove(ctx, runningKey(k.UID)); err != nil {
			return err
		}
		l.lock.Lock()
		switch known := l.tracked[k]; {
		case known == nil:
		case known.obsolete:
			delete(l.tracked, k)
		default:
			known.written = false
		}
		l.lock.Unlock()
	}
	for k, r := range l.unwritten() {
		if exists, err := l.exists(ctx, k); err != nil {
			return err
		} else if !exists {
			continue
		}
		if err := l.journal.write(ctx, runningKey(k.UID), r); err != nil {
			return err
		}
		l.log.Warn("an engine runs and is no longer registered: it is frozen, or about to end, or takes no new sessions", "pod", k.NamespacedName, "uid", k.UID)
		l.lock.Lock()
		if known := l.tracked[k]; known != nil {
			known.written = true
		} else { // it ended meanwhile
			l.tracked[k] = &tracked{engine: r.Engine, seen: true, written: true, obsolete: true}
		}
		l.lock.Unlock()
	}
	return nil
}

// unwritten returns the engines that the journal must hold, as many as fit.
func (l *loop) unwritten() map[key]*gateway.Release {
	l.lock.Lock()
	defer l.lock.Unlock()
	space := maxWritten
	for _, known := range l.tracked {
		if known.written {
			space--
		}
	}
	write := map[key]*gateway.Release{}
	for k, known := range l.tracked {
		switch {
		case known.written || !known.isUnregistered():
		case len(write) < space:
			write[k] = &gateway.Release{Driver: k.NamespacedName, UID: k.UID, Engine: known.engine, WhileRunning: known.found, Pending: gateway.Steps}
		case !known.warned:
			known.warned = true
			l.metrics.unwritten.Inc()
			l.log.Warn("an engine runs and is no longer registered, and the journal has no space for it", "pod", k.NamespacedName, "uid", k.UID, "most", maxWritten)
		}
	}
	return write
}

// isUnseen reports whether only the journal has the engine.
func (known *tracked) isUnseen() bool { return !known.seen }

// isRemovable reports whether the journal need not hold the engine any more.
func (known *tracked) isRemovable() bool {
	return known.written && (known.obsolete || known.runs && known.missed == 0)
}

// isUnregistered reports whether the engine runs and is no longer registered.
func (known *tracked) isUnregistered() bool {
	return known.runs && len(known.found) > 0 && known.missed >= maxMissed
}

// restore tracks an engine that an earlier process wrote down. The caller holds the
// lock.
func (l *loop) restore(r *gateway.Release) {
	k := key{NamespacedName: r.Driver, UID: r.UID}
	if known := l.tracked[k]; known != nil {
		known.written = true
		if sameEngine(known.engine, r.Engine) && len(known.found) == 0 {
			known.found, known.missed = r.WhileRunning, maxMissed
		}
		return
	}
	l.tracked[k] = &tracked{engine: r.Engine, found: r.WhileRunning, missed: maxMissed, written: true}
}
