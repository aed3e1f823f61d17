package releaser

import (
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

// death is a driver whose release is due or in progress.
type death struct {
	pod       *corev1.Pod      // as it was seen last; nil if only the journal has it
	at        time.Time        // of the death
	release   *gateway.Release // nil until it has begun
	pause     wait.Backoff
	looked    bool           // once for a registration, and found none
	tried     bool           // and not done
	written   bool           // to the journal
	resumed   bool           // from the journal
	keeps     bool           // its sessions, until they are due
	refused   gateway.Reason // as reported; "" if it is not refused
	forbidden int            // lists of pods, in a row
}

// unproven reports whether there is no proof yet, or none any more.
func (d *death) unproven() bool {
	return d.release == nil || len(d.release.Found) == 0
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

	lock   sync.Mutex
	deaths map[key]*death
	lives  map[key]*life
	looked bool              // at lives, once
	done   map[key]time.Time // by this process, so that removing a mark starts nothing
}

func newLoop(c Config, api client.Client) *loop {
	l := &loop{
		gateway: c.Gateway(api), namespaces: c.Namespaces, keep: c.KeepSessions, api: api, log: c.Log,
		journal: newJournal(api, types.NamespacedName{Namespace: c.Namespace, Name: name}),
		retries: make(chan struct{}, workers/2),
		deaths:  map[key]*death{}, lives: map[key]*life{}, done: map[key]time.Time{},
	}
	l.metrics = newMetrics(l.pending, func() float64 { return float64(len(l.livesThat((*life).hasVanished))) })
	return l
}

// Reconcile advances a release as far as possible. Only one worker at a time has a key.
func (l *loop) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	d := l.death(k)
	if d == nil {
		return reconcile.Result{}, nil
	}
	if d.tried { // new deaths go first
		select {
		case l.retries <- struct{}{}:
			defer func() { <-l.retries }()
		default:
			return reconcile.Result{RequeueAfter: wait.Jitter(firstPause, 1)}, nil
		}
	}
	err := l.advance(ctx, k, d)
	refusal := gateway.RefusalOf(err)
	if r := d.release; err != nil && r != nil && over(r, refusal) {
		if refusal != nil {
			l.tellRefusal(ctx, k, d, refusal)
		}
		l.log.Warn("release given up", "pod", k.NamespacedName, "gateway", keptBy(r), "error", err)
		outcome := annotations.Unproven
		if r.Pending[0] == gateway.CloseSessions {
			outcome = outcomeOf(r)
		}
		err = l.finish(ctx, k, d, outcome)
		refusal = nil
	}
	if err != nil && time.Since(d.at) > forgotten {
		l.log.Error("release given up, and the mark could not be written", "pod", k.NamespacedName, "error", errors.Join(err, l.journal.remove(ctx, k.UID)))
		l.forget(k)
		return reconcile.Result{}, nil
	}
	if d.unproven() && l.seen(d) != nil { // the next try begins with the pod
		d.release = nil
	}
	d.tried = true
	l.keeps(d, errors.Is(err, errEarly))
	switch {
	case err == nil:
		l.forget(k)
		return reconcile.Result{}, nil
	case errors.Is(err, errEarly): // no worker waits for it
		return reconcile.Result{RequeueAfter: max(time.Until(d.release.CloseAt), time.Millisecond)}, nil
	case errors.Is(err, gateway.ErrNotRegistered): // it may be about to register, or ZooKeeper's server lags behind
		d.looked = true
		return reconcile.Result{RequeueAfter: secondLook}, nil
	case refusal != nil:
		l.tellRefusal(ctx, k, d, refusal)
		return reconcile.Result{RequeueAfter: wait.Jitter(refusedPause, 0.1)}, nil
	}
	l.metrics.failed()
	pause := d.pause.Step()
	l.log.Warn("release failed, trying again", "pod", k.NamespacedName, "in", pause, "error", err)
	return reconcile.Result{RequeueAfter: pause}, nil
}

// over reports whether a release must end without success, with a mark that says so. A
// registration that cannot be proven has expired by now, and nothing is tried forever.
func over(r *gateway.Release, refusal *gateway.Refusal) bool {
	since := r.Death.At
	if r.CloseAt.After(since) {
		since = r.CloseAt
	}
	age := time.Since(since)
	return age > longAgo || refusal != nil && refusal.Reason == gateway.NotProven && age > expired
}

// advance does all steps that are left. Without an error the release is done, or not
// needed.
func (l *loop) advance(ctx context.Context, k key, d *death) error {
	if d.release == nil {
		if due, err := l.begin(ctx, k, d); !due || err != nil {
			return err
		}
	}
	for r := d.release; len(r.Pending) > 0; {
		step := r.Pending[0]
		if ready, err := l.ready(ctx, k, d, step); !ready || err != nil {
			return err
		}
		err := r.Next(ctx, l.gateway)
		switch {
		case errors.Is(err, gateway.ErrNotRegistered) && (d.looked || l.seen(d) == nil):
			return l.finish(ctx, k, d, annotations.NotRegistered)
		case errors.Is(err, gateway.ErrForeign):
			l.endLife(k)
		case err != nil && step == gateway.Deregister: // sessions are kept from when it succeeds
			r.CloseAt, d.written = time.Time{}, false
		}
		if err != nil {
			return err
		}
		if step == gateway.Deregister { // not written down, because it may be done again
			if !d.resumed {
				l.metrics.deregistered(r)
			}
			l.tellRelease(ctx, k, r, l.keep)
		}
	}
	return l.finish(ctx, k, d, outcomeOf(d.release))
}

func outcomeOf(r *gateway.Release) annotations.ReleaseResult {
	if r.Expired {
		return annotations.Expired
	}
	return annotations.Deregistered
}

// errEarly means that the engine is deregistered and its sessions are not due yet.
var errEarly = errors.New("old sessions are kept for their clients")

// ready reports whether a step may be done now. Nothing is removed before it is written
// down, and before the proof is read again.
func (l *loop) ready(ctx context.Context, k key, d *death, step gateway.Step) (bool, error) {
	r := d.release
	if step == gateway.Prove {
		d.written = false
		return true, nil
	}
	if r.CloseAt.IsZero() {
		r.CloseAt = time.Now().Add(l.keep)
	}
	early := step == gateway.CloseSessions && time.Now().Before(r.CloseAt)
	if !early {
		if dead, err := l.still(ctx, k, d); err != nil {
			return false, err
		} else if !dead {
			l.log.Error("the driver runs again, and is left alone", "pod", k.NamespacedName)
			return false, l.journal.remove(ctx, k.UID)
		}
	}
	if err := l.write(ctx, k, d); err != nil {
		return false, err
	}
	if early {
		return false, errEarly
	}
	return true, nil
}

// write writes the release down. A full journal must not delay a client's reconnect:
// then only this process knows that it must close sessions.
func (l *loop) write(ctx context.Context, k key, d *death) error {
	if d.written {
		return nil
	}
	err := l.journal.write(ctx, k.UID, d.release)
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

// still reports whether the proof holds right before something is removed: the driver
// is dead or gone, and no other pod has its keys.
func (l *loop) still(ctx context.Context, k key, d *death) (dead bool, err error) {
	pod, gone, err := l.look(ctx, k, d)
	if err != nil {
		return false, err
	}
	if !gone {
		driver, err := spark.PodOf(pod)
		if err != nil {
			return false, nil //nolint:nilerr // it is no longer a driver
		}
		if _, dead := gateway.DeathOf(driver); !dead {
			return false, nil
		}
	}
	return true, l.alone(ctx, k, d)
}

// begin reads the pod again and starts its release, if it is still due.
func (l *loop) begin(ctx context.Context, k key, d *death) (due bool, err error) {
	pod, gone, err := l.look(ctx, k, d)
	if err != nil {
		return false, err
	}
	engine, death, due := l.due(pod, gone)
	if !due {
		return false, nil
	}
	d.release = &gateway.Release{Driver: k.NamespacedName, UID: k.UID, Engine: engine, Death: death, Lived: l.lived(k, engine), Pending: slices.Clone(gateway.Steps)}
	if len(engine.Addresses) == 0 {
		return true, &gateway.Refusal{
			Reason: gateway.NotProven, Err: errors.New("the pod has no address of its own"),
			Remedy: "The pod has no address of its own, for example because of hostNetwork, so nothing proves which registration belongs to it. The registration must expire.",
		}
	}
	return true, l.alone(ctx, k, d)
}

// due reports whether a pod is a dead engine of the gateway that must be released.
func (l *loop) due(pod *corev1.Pod, gone bool) (e gateway.Engine, d gateway.Death, due bool) {
	driver, e, ours := l.engine(pod)
	if !ours {
		return e, d, false
	}
	d, stage := gateway.StageOf(driver, gone, l.gateway.Instance())
	return e, d, stage == gateway.Due
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

// look returns the current pod, or the last known one if it is gone.
func (l *loop) look(ctx context.Context, k key, d *death) (pod *corev1.Pod, gone bool, err error) {
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

// alone returns a refusal if another pod has one of the engine's keys. Labels can
// change, and an address is given to another pod when its owner has ended. So only a
// pod that has its keys alone is the pod that the gateway means. Before sessions are
// closed only the application's id counts, because sessions are found by it alone. By
// then Kyuubi may have launched another engine under the same tag.
func (l *loop) alone(ctx context.Context, k key, d *death) error {
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
				if d.forbidden++; d.forbidden >= patience {
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
func (l *loop) finish(ctx context.Context, k key, d *death, outcome annotations.ReleaseResult) error {
	r := d.release
	mark := annotations.ReleaseMark{
		Gateway: gateway.Name, At: time.Now(), Registration: outcome, Sessions: r.Sessions,
		GivenUp: r.GivenUp, Instances: []string{l.gateway.Instance()},
	}
	if pod := l.seen(d); pod != nil { // other instances that looked
		mark.Instances = append(mark.Instances, annotations.ReadReleaseMark(pod.Annotations[annotations.Released]).Instances...)
		slices.Sort(mark.Instances)
		mark.Instances = slices.Compact(mark.Instances)
	}
	if err := l.mark(ctx, k, mark); err != nil {
		return err
	}
	if err := l.journal.remove(ctx, k.UID); err != nil {
		return err
	}
	took := time.Since(r.Death.At)
	l.metrics.released(mark)
	l.settle(k)
	l.log.Info("released", "pod", k.NamespacedName, "uid", k.UID, "application", r.Engine.Application,
		"registration", outcome, "sessions", r.Sessions, "givenUp", r.GivenUp, "afterDeath", took)
	return nil
}

// mark writes the mark on the driver. It is not an error if the driver is gone.
func (l *loop) mark(ctx context.Context, k key, m annotations.ReleaseMark) error {
	if err := job.Annotate(ctx, l.api, k, annotations.Released, m.String()); err != nil {
		return fmt.Errorf("marking the driver: %w", err)
	}
	return nil
}
