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

// life is what was seen of an engine while it ran. If no registration is left after its
// death, this is the proof.
type life struct {
	engine  gateway.Engine
	runs    bool                   // by the last status of the pod
	seen    bool                   // by this process's watch; false if only the journal has it
	found   []gateway.Registration // at the last look that found any
	missed  int                    // looks since then
	written bool                   // to the journal
	told    bool                   // logged that it did not fit into the journal
	over    bool                   // the journal's entry must be removed
}

// Pauses between two looks at the lives. A look takes a small share of the time,
// however long it takes.
const (
	firstLook = time.Second // after the start, when the list of pods has come
	lookPause = 10 * time.Second
	lookShare = 10
)

// vanished is after how many looks without its registration a running engine is written
// down. An engine that is about to end misses one look.
const vanished = 2

// maxWritten limits the lives in the journal, so that releases still fit, even if
// ZooKeeper loses the registrations of all engines at once.
const maxWritten = 400

// note keeps what a look must know of a pod. The caller holds the lock.
func (l *loop) note(k key, driver spark.Pod, e gateway.Engine, over bool) {
	known := l.lives[k]
	switch {
	case over:
		l.end(k)
	case runs(driver) && len(e.Addresses) > 0:
		if known == nil || !sameEngine(known.engine, e) { // the proof is for these keys and this address
			known = &life{engine: e, written: known != nil && known.written}
			l.lives[k] = known
		}
		known.runs, known.seen, known.over = true, true, false
	case known != nil:
		known.runs, known.seen = false, true
	}
}

// end removes a life that is no longer needed. The caller holds the lock.
func (l *loop) end(k key) {
	switch known := l.lives[k]; {
	case known == nil:
	case known.written:
		known.over, known.runs, known.seen = true, false, true // the next look removes it
	default:
		delete(l.lives, k)
	}
}

func sameEngine(a, b gateway.Engine) bool {
	return a.Reference == b.Reference && a.Application == b.Application && a.Namespace == b.Namespace && slices.Equal(a.Addresses, b.Addresses)
}

// lived returns the registrations that were seen while an engine ran.
func (l *loop) lived(k key, e gateway.Engine) []gateway.Registration {
	l.lock.Lock()
	defer l.lock.Unlock()
	if known := l.lives[k]; known != nil && sameEngine(known.engine, e) {
		return known.found
	}
	return nil
}

// standBy looks at living engines in every replica, so that what was seen outlives the
// leader. A drained node takes the leader with it, and also engines, whose
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
		l.watchLives(ctx)
	}
	return err
}

// watchLives looks again and again, one look at a time.
func (l *loop) watchLives(ctx context.Context) {
	failed := false
	for pause := firstLook; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		begun := time.Now()
		err := l.lookAtLives(ctx)
		switch took := time.Since(begun); {
		case ctx.Err() != nil:
		case err != nil && !failed:
			l.log.Warn("cannot read the registrations of running engines; a registration that expires meanwhile leaves no proof", "error", err)
		case err == nil && failed:
			l.log.Info("can read the registrations of running engines again", "took", took)
		}
		if failed = err != nil; failed {
			l.metrics.lookFailures.Inc()
		}
		pause = max(lookPause, lookShare*time.Since(begun))
		if err := l.writeLives(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("running engines without a registration are not in the journal yet", "error", err)
		}
	}
}

// lookAtLives reads the registrations of all running engines, if there are any.
func (l *loop) lookAtLives(ctx context.Context) error {
	keys, engines := l.running()
	if len(keys) == 0 {
		return nil
	}
	begun := time.Now()
	found, err := l.gateway.Look(ctx, engines)
	if err != nil {
		return err
	}
	l.saw(keys, engines, found)
	if !l.looked {
		l.looked = true
		registered := slices.DeleteFunc(found, func(f []gateway.Registration) bool { return len(f) == 0 })
		l.log.Info("looked at the registrations of running engines for the first time", "engines", len(keys), "registered", len(registered), "took", time.Since(begun))
	}
	return nil
}

func (l *loop) running() (keys []key, engines []gateway.Engine) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for k, known := range l.lives {
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
		known := l.lives[k]
		switch {
		case known == nil || !sameEngine(known.engine, engines[i]):
		case len(found[i]) == 0:
			known.missed++
		case gateway.Bounded(found[i]):
			known.found, known.missed = found[i], 0
		}
	}
}

// livesThat returns the lives for which something holds.
func (l *loop) livesThat(holds func(*life) bool) (keys []key) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for k, known := range l.lives {
		if holds(known) {
			keys = append(keys, k)
		}
	}
	return keys
}

// askFor reads a pod that the watch has not shown, or whose end it may have missed. If
// the pod is gone, its life ends, because nothing can prove how it ended.
func (l *loop) askFor(ctx context.Context, k key) (there bool, err error) {
	pod := &corev1.Pod{}
	err = l.api.Get(ctx, k.NamespacedName, pod)
	if apierrors.IsNotFound(err) || err == nil && pod.UID != k.UID {
		l.lock.Lock()
		defer l.lock.Unlock()
		if l.deaths[k] == nil {
			l.end(k)
		}
		return false, nil
	}
	return err == nil, err
}

// writeLives keeps the journal, in the replica that leads. It writes a life when its
// registration is gone and its engine still runs, because the death may come much
// later. It removes a life that is over or registered again. It removes first, to make
// space.
func (l *loop) writeLives(ctx context.Context) error {
	if !l.leads.Load() {
		return nil
	}
	for _, k := range l.livesThat((*life).isUnseen) {
		if _, err := l.askFor(ctx, k); err != nil {
			return err
		}
	}
	for _, k := range l.livesThat((*life).isOver) {
		if err := l.journal.removeLife(ctx, k.UID); err != nil {
			return err
		}
		l.lock.Lock()
		switch known := l.lives[k]; {
		case known == nil:
		case known.over:
			delete(l.lives, k)
		default:
			known.written = false
		}
		l.lock.Unlock()
	}
	for k, r := range l.vanished() {
		if there, err := l.askFor(ctx, k); err != nil {
			return err
		} else if !there {
			continue
		}
		if err := l.journal.writeLife(ctx, k.UID, r); err != nil {
			return err
		}
		l.log.Warn("an engine runs and is no longer registered: it is frozen, or about to end, or takes no new sessions", "pod", k.NamespacedName, "uid", k.UID)
		l.lock.Lock()
		if known := l.lives[k]; known != nil {
			known.written = true
		} else { // it ended meanwhile
			l.lives[k] = &life{engine: r.Engine, seen: true, written: true, over: true}
		}
		l.lock.Unlock()
	}
	return nil
}

// vanished returns the lives that the journal must hold, as many as fit.
func (l *loop) vanished() map[key]*gateway.Release {
	l.lock.Lock()
	defer l.lock.Unlock()
	room := maxWritten
	for _, known := range l.lives {
		if known.written {
			room--
		}
	}
	write := map[key]*gateway.Release{}
	for k, known := range l.lives {
		switch {
		case known.written || !known.hasVanished():
		case len(write) < room:
			write[k] = &gateway.Release{Driver: k.NamespacedName, UID: k.UID, Engine: known.engine, Lived: known.found, Pending: gateway.Steps}
		case !known.told:
			known.told = true
			l.metrics.unwritten.Inc()
			l.log.Warn("an engine runs and is no longer registered, and the journal has no space for it", "pod", k.NamespacedName, "uid", k.UID, "most", maxWritten)
		}
	}
	return write
}

// isUnseen reports whether only the journal has the life.
func (known *life) isUnseen() bool { return !known.seen }

// isOver reports whether the journal need not hold the life any more.
func (known *life) isOver() bool {
	return known.written && (known.over || known.runs && known.missed == 0)
}

// hasVanished reports whether the engine runs and is no longer registered.
func (known *life) hasVanished() bool {
	return known.runs && len(known.found) > 0 && known.missed >= vanished
}

// restore takes over a life that an earlier process wrote down. The caller holds the
// lock.
func (l *loop) restore(r *gateway.Release) {
	k := key{NamespacedName: r.Driver, UID: r.UID}
	if known := l.lives[k]; known != nil {
		known.written = true
		if sameEngine(known.engine, r.Engine) && len(known.found) == 0 {
			known.found, known.missed = r.Lived, vanished
		}
		return
	}
	l.lives[k] = &life{engine: r.Engine, found: r.Lived, missed: vanished, written: true}
}
