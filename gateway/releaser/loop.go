package releaser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
)

// key identifies a release by its driver.
type key = job.Key

// state is how far the release of a death is.
type state int

const (
	untried      state = iota
	failing            // it is tried again
	unregistered       // the last look found no registration; it looks once more
	waiting            // the engine is deregistered, and its sessions are not due yet
	done
)

// death is a driver with a release that is due or in progress. pod, state and refused
// are read and changed with the loop's lock. The others belong to the worker that has
// the key; resume sets them before there are workers.
type death struct {
	pod     *corev1.Pod // as it was seen last; nil if only the journal has it
	state   state
	refused gateway.Reason // as reported; "" if it is not refused

	at        time.Time        // of the death
	release   *gateway.Release // nil until it has begun
	pause     wait.Backoff
	written   bool // to the journal
	resumed   bool // from the journal
	forbidden int  // lists of pods, in a row
}

type loop struct {
	gateway    gateway.Gateway
	namespaces []string
	keep       time.Duration // sessions
	api        client.Client // not cached, because it reads the proof
	journal    journal
	metrics    *metrics
	log        *slog.Logger

	leads   atomic.Bool   // false while it stands by
	retries chan struct{} // limits how many run at once

	lock    sync.Mutex // of what follows; not held during calls
	deaths  map[key]*death
	tracked map[key]*tracked  // engines
	done    map[key]time.Time // by this process, so that removing a mark starts nothing
}

func newLoop(c Config, api client.Client) *loop {
	l := &loop{
		gateway: c.Gateway(api), namespaces: c.Namespaces, keep: c.KeepSessions, api: api, log: c.Log,
		journal: newJournal(api, types.NamespacedName{Namespace: c.Namespace, Name: name}),
		retries: make(chan struct{}, workers/2),
		deaths:  map[key]*death{}, tracked: map[key]*tracked{}, done: map[key]time.Time{},
	}
	l.metrics = newMetrics(l.pending, func() float64 { return float64(len(l.trackedThat((*tracked).isUnregistered))) })
	return l
}

// Reconcile advances a release as far as possible. Only one worker at a time has a key.
func (l *loop) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	d, before := l.death(k)
	if d == nil {
		return reconcile.Result{}, nil
	}
	if before != untried { // new deaths go first
		select {
		case l.retries <- struct{}{}:
			defer func() { <-l.retries }()
		default:
			return reconcile.Result{RequeueAfter: wait.Jitter(firstPause, 1)}, nil
		}
	}
	err := l.advance(ctx, k, d)
	if refusal := gateway.RefusalOf(err); refusal != nil {
		l.reportRefusal(ctx, k, d, refusal)
	}
	if result, ends := l.result(d, before, err); ends {
		if err != nil && result != annotations.NotRegistered {
			l.log.Warn("release given up", "pod", k.NamespacedName, "gateway", keptBy(d.release), "error", err)
		}
		err = l.finish(ctx, k, d, result)
	}
	after, pause := l.after(ctx, k, d, err)
	l.lock.Lock()
	defer l.lock.Unlock()
	if d.release != nil && len(d.release.Found) == 0 && d.pod != nil { // the next try begins with the pod
		d.release = nil
	}
	if d.state = after; after == done {
		delete(l.deaths, k)
	}
	return reconcile.Result{RequeueAfter: pause}, nil
}

// after returns the state that follows a try, and the pause before the next one.
func (l *loop) after(ctx context.Context, k key, d *death, err error) (state, time.Duration) {
	switch {
	case err == nil || errors.Is(err, errNotDue):
		return done, 0
	case errors.Is(err, errEarly): // no worker waits for it
		return waiting, max(time.Until(d.release.CloseAt), time.Millisecond)
	case time.Since(d.at) > giveUpAfter:
		l.log.Error("release given up, and the mark could not be written", "pod", k.NamespacedName, "error", errors.Join(err, l.journal.remove(ctx, runningKey(k.UID), string(k.UID))))
		return done, 0
	case errors.Is(err, gateway.ErrNotRegistered): // it may be about to register, or ZooKeeper's server lags behind
		return unregistered, secondLook
	case gateway.RefusalOf(err) != nil:
		return failing, wait.Jitter(refusedPause, 0.1)
	}
	pause := d.pause.Step()
	l.metrics.failures.Inc()
	l.log.Warn("release failed, trying again", "pod", k.NamespacedName, "in", pause, "error", err)
	return failing, pause
}

// result returns the result of a release. ends is false if it is not needed or must be
// tried again.
func (l *loop) result(d *death, before state, err error) (result annotations.ReleaseResult, ends bool) {
	r := d.release
	switch {
	case r == nil || errors.Is(err, errNotDue):
		return "", false
	case errors.Is(err, gateway.ErrNotRegistered) && (before == unregistered || l.seen(d) == nil):
		return annotations.NotRegistered, true
	case err != nil && !isTooLate(r, err):
		return "", false
	case err != nil && r.Pending[0] != gateway.CloseSessions:
		return annotations.Unproven, true
	case r.Expired:
		return annotations.Expired, true
	}
	return annotations.Deregistered, true
}

// isTooLate reports whether a release must end without success, with a mark that says
// so. A registration that cannot be proven has expired by now, and nothing is tried
// forever.
func isTooLate(r *gateway.Release, err error) bool {
	since := r.Death.At
	if r.CloseAt.After(since) {
		since = r.CloseAt
	}
	age := time.Since(since)
	refusal := gateway.RefusalOf(err)
	return age > tooOld || refusal != nil && refusal.Reason == gateway.NotProven && age > registrationExpires
}

var (
	// errEarly means that the engine is deregistered and its sessions are not due yet.
	errEarly = errors.New("old sessions are kept for their clients")
	// errNotDue means that there is nothing to release.
	errNotDue = errors.New("the driver need not be released")
)

// advance does all steps that are left.
func (l *loop) advance(ctx context.Context, k key, d *death) error {
	if d.release == nil {
		if err := l.begin(ctx, k, d); err != nil {
			return err
		}
	}
	for r := d.release; len(r.Pending) > 0; {
		step := r.Pending[0]
		if err := l.prepare(ctx, k, d, step); err != nil {
			return err
		}
		err := r.Next(ctx, l.gateway)
		if errors.Is(err, gateway.ErrForeign) {
			l.untrack(k)
		}
		if err != nil && step == gateway.Deregister { // sessions are kept from when it succeeds
			r.CloseAt, d.written = time.Time{}, false
		}
		if err != nil {
			return err
		}
		if step == gateway.Deregister { // not written down, because it may be done again
			if !d.resumed {
				l.metrics.deregistered(r)
			}
			l.reportRelease(ctx, k, r)
		}
	}
	return nil
}

// prepare returns an error if a step must not be done now. Nothing is removed before it
// is written down, and before the proof is read again.
func (l *loop) prepare(ctx context.Context, k key, d *death, step gateway.Step) error {
	r := d.release
	if step == gateway.Prove {
		d.written = false
		return nil
	}
	if r.CloseAt.IsZero() {
		r.CloseAt = time.Now().Add(l.keep)
	}
	if step == gateway.CloseSessions && time.Now().Before(r.CloseAt) {
		return cmp.Or(l.write(ctx, k, d), errEarly)
	}
	if err := l.recheckProof(ctx, k, d); err != nil {
		return err
	}
	return l.write(ctx, k, d)
}

// write writes the release down. A full journal must not delay a client's reconnect:
// then only this process knows that it must close sessions.
func (l *loop) write(ctx context.Context, k key, d *death) error {
	if d.written {
		return nil
	}
	err := l.journal.write(ctx, string(k.UID), d.release)
	if errors.Is(err, errFull) {
		err = nil
		if d.release.Pending[0] == gateway.Deregister { // a later step tries again
			l.metrics.unwritten.Inc()
			l.log.Warn("the journal is full: if this process ends before the sessions of the engine are closed, they stay", "pod", k.NamespacedName, "closeAt", d.release.CloseAt)
		}
	}
	d.written = err == nil
	return err
}

// recheckProof reads the proof again right before something is removed: the driver is
// dead or gone, and no other pod has its keys.
func (l *loop) recheckProof(ctx context.Context, k key, d *death) error {
	pod, gone, err := l.getPod(ctx, k, d)
	if err != nil {
		return err
	}
	if !gone {
		driver, err := spark.PodOf(pod)
		dead := false
		if err == nil {
			_, dead = gateway.DeathOf(driver)
		}
		if !dead {
			l.log.Error("the driver runs again, and is left alone", "pod", k.NamespacedName)
			return cmp.Or(l.journal.remove(ctx, runningKey(k.UID), string(k.UID)), errNotDue)
		}
	}
	return l.checkUniqueLabels(ctx, k, d)
}

// begin reads the pod again and starts its release, if it is still due.
func (l *loop) begin(ctx context.Context, k key, d *death) error {
	pod, gone, err := l.getPod(ctx, k, d)
	if err != nil {
		return err
	}
	driver, engine, ours := l.engine(pod)
	if !ours {
		return errNotDue
	}
	death, stage := gateway.StageOf(driver, gone, l.gateway.Instance())
	if stage != gateway.Due {
		return errNotDue
	}
	d.release = &gateway.Release{Driver: k.NamespacedName, UID: k.UID, Engine: engine, Death: death, WhileRunning: l.foundWhileRunning(k, engine), Pending: slices.Clone(gateway.Steps)}
	if len(engine.Addresses) == 0 {
		return &gateway.Refusal{
			Reason: gateway.NotProven, Err: errors.New("the pod has no address of its own"),
			Remedy: "The pod has no address of its own, for example because of hostNetwork, so nothing proves which registration belongs to it. The registration must expire.",
		}
	}
	return l.checkUniqueLabels(ctx, k, d)
}

// engine returns the gateway's engine that a pod is, if it is one in the namespaces of
// engines.
func (l *loop) engine(pod *corev1.Pod) (driver spark.Pod, e gateway.Engine, ours bool) {
	driver, err := spark.PodOf(pod)
	if err != nil || driver.Role != spark.Driver || !slices.Contains(l.namespaces, pod.Namespace) {
		return driver, e, false
	}
	e, ours = l.gateway.Engine(driver)
	return driver, e, ours
}

// getPod returns the current pod, or the last known one if it is gone.
func (l *loop) getPod(ctx context.Context, k key, d *death) (pod *corev1.Pod, gone bool, err error) {
	pod = &corev1.Pod{}
	err = l.api.Get(ctx, k.NamespacedName, pod)
	if apierrors.IsNotFound(err) || err == nil && pod.UID != k.UID {
		return l.seen(d), true, nil
	}
	if err != nil {
		err = fmt.Errorf("reading the driver: %w", err)
	}
	return pod, false, err
}

// checkUniqueLabels returns a refusal if another pod has one of the engine's keys. Labels can
// change, and an address is given to another pod when its owner has ended. So only if
// no other pod has its keys is it the pod that the gateway means. Before sessions are
// closed only the application's id counts, because sessions are found by it alone. By
// then Kyuubi may have launched another engine under the same tag.
func (l *loop) checkUniqueLabels(ctx context.Context, k key, d *death) error {
	remedy := "Another pod has the driver's labels, copied or forged, so nothing proves which of the two is the engine. The registration must expire."
	claims := []client.MatchingLabels{{spark.RoleLabel: string(spark.Driver), spark.ApplicationLabel: d.release.Engine.Application}}
	if d.release.Pending[0] == gateway.CloseSessions {
		remedy = "Another driver has the application's id, copied or forged, so nothing proves which of the two the sessions belong to. They stay until kyuubi.session.idle.timeout."
	} else {
		claims = append(claims, client.MatchingLabels{gateway.Label: d.release.Engine.Reference})
	}
	for _, namespace := range l.namespaces {
		for _, claim := range claims {
			others := &metav1.PartialObjectMetadataList{}
			others.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
			err := l.api.List(ctx, others, client.InNamespace(namespace), claim, client.Limit(2))
			if apierrors.IsForbidden(err) {
				if d.forbidden++; d.forbidden >= maxForbidden {
					return &gateway.Refusal{
						Reason: gateway.RightsMissing, Err: err,
						Remedy: "The releaser may not list the pods of the namespace " + namespace + ". Bind its role there, as in each of the namespaces.",
					}
				}
			}
			if err != nil {
				return fmt.Errorf("looking for other pods with the driver's labels: %w", err)
			}
			for _, other := range others.Items {
				if other.UID != k.UID {
					return &gateway.Refusal{
						Reason: gateway.NotProven, Err: fmt.Errorf("pod %s/%s has the same labels %v", other.Namespace, other.Name, claim),
						Remedy: remedy,
					}
				}
			}
		}
	}
	d.forbidden = 0
	return nil
}

// finish marks the driver, so that it is not released again. It removes the journal's
// entry last: until then a new process can finish in its place.
func (l *loop) finish(ctx context.Context, k key, d *death, result annotations.ReleaseResult) error {
	r := d.release
	mark := annotations.ReleaseMark{
		Gateway: gateway.Name, At: time.Now(), Registration: result, Sessions: r.Sessions,
		GivenUp: r.GivenUp, Instances: []string{l.gateway.Instance()},
	}
	if pod := l.seen(d); pod != nil { // other instances that looked
		mark.Instances = append(mark.Instances, annotations.ReadReleaseMark(pod.Annotations[annotations.Released]).Instances...)
		slices.Sort(mark.Instances)
		mark.Instances = slices.Compact(mark.Instances)
	}
	if err := l.writeMark(ctx, k, mark); err != nil {
		return err
	}
	if err := l.journal.remove(ctx, runningKey(k.UID), string(k.UID)); err != nil {
		return err
	}
	took := time.Since(r.Death.At)
	l.metrics.released(mark)
	l.markDone(k)
	l.log.Info("released", "pod", k.NamespacedName, "uid", k.UID, "application", r.Engine.Application,
		"registration", result, "sessions", r.Sessions, "givenUp", r.GivenUp, "afterDeath", took)
	return nil
}

// writeMark writes the mark on the driver. It is not an error if the driver is gone.
func (l *loop) writeMark(ctx context.Context, k key, m annotations.ReleaseMark) error {
	if err := job.Annotate(ctx, l.api, k, annotations.Released, m.String()); err != nil {
		return fmt.Errorf("marking the driver: %w", err)
	}
	return nil
}
