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

// key of a release: the driver's.
type key = job.Key

// death is a driver whose release is due or under way.
type death struct {
	pod       *corev1.Pod      // as it was seen last; nil for one that only the journal knows
	at        time.Time        // of the death
	release   *gateway.Release // nil until it has begun
	pause     wait.Backoff
	looked    bool           // once for a registration, in vain
	tried     bool           // and not done
	written   bool           // the release, to the journal
	resumed   bool           // from the journal
	keeps     bool           // its sessions, until they are due
	refused   gateway.Reason // as it was told; "" when it is not refused
	forbidden int            // lists of pods, in a row
}

// unproven tells whether there is no proof yet, or none any more.
func (d *death) unproven() bool {
	return d.release == nil || len(d.release.Found) == 0
}

type loop struct {
	gateway    gateway.Gateway
	namespaces []string
	keep       time.Duration // sessions
	api        client.Client // not cached: what it reads is the proof
	journal    journal
	metrics    *metrics
	log        *slog.Logger

	leads   atomic.Bool   // and is not just standing by
	retries chan struct{} // a place for each that may be under way

	lock   sync.Mutex
	deaths map[key]*death
	lives  map[key]*life
	looked bool              // at lives, once
	done   map[key]time.Time // by this process, so that a mark that is taken away starts nothing
}

func newLoop(c Config, api client.Client) *loop {
	l := &loop{
		gateway: c.Gateway(api), namespaces: c.Namespaces, keep: c.KeepSessions, api: api, log: c.Log,
		journal: newJournal(api, types.NamespacedName{Namespace: c.Namespace, Name: name}),
		retries: make(chan struct{}, workers/2),
		deaths:  map[key]*death{}, lives: map[key]*life{}, done: map[key]time.Time{},
	}
	l.metrics = newMetrics(l.pending, l.unregistered)
	return l
}

// Reconcile takes a release as far as it comes. Only one worker at a time has a key.
func (l *loop) Reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	d := l.death(k)
	if d == nil {
		return reconcile.Result{}, nil
	}
	if d.tried { // deaths that are new go before
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
		outcome := gateway.Unproven
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
	case errors.Is(err, gateway.ErrNotRegistered): // it may be on its way, or a server could not see it
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

// over tells whether a release is to end without success, and its driver to be
// marked so: what cannot be proven has expired by now, and nothing is tried for ever.
func over(r *gateway.Release, refusal *gateway.Refusal) bool {
	since := r.Death.At
	if r.CloseAt.After(since) {
		since = r.CloseAt
	}
	age := time.Since(since)
	return age > longAgo || refusal != nil && refusal.Reason == gateway.NotProven && age > expired
}

// advance does all that is left; without an error it is done, or need not be.
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
			return l.finish(ctx, k, d, gateway.NotRegistered)
		case errors.Is(err, gateway.ErrForeign):
			l.endLife(k)
		case err != nil && step == gateway.Deregister: // the time that sessions are kept counts from when it succeeds
			r.CloseAt, d.written = time.Time{}, false
		}
		if err != nil {
			return err
		}
		if step == gateway.Deregister { // what is written need not say so: it may be done again
			if !d.resumed {
				l.metrics.deregistered(r)
			}
			l.tellRelease(ctx, k, r, l.keep)
		}
	}
	return l.finish(ctx, k, d, outcomeOf(d.release))
}

func outcomeOf(r *gateway.Release) gateway.Outcome {
	if r.Expired {
		return gateway.Expired
	}
	return gateway.Deregistered
}

// errEarly says that the engine is deregistered and its sessions are not due.
var errEarly = errors.New("old sessions are kept for their clients")

// ready tells whether a step may be done now. Nothing is removed without a trace,
// nor without proof that is read anew.
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

// write the release down. A journal that is full must keep nobody from
// reconnecting: then only this process knows that sessions are to be closed.
func (l *loop) write(ctx context.Context, k key, d *death) error {
	if d.written {
		return nil
	}
	err := l.journal.write(ctx, k.UID, d.release)
	if errors.Is(err, errFull) {
		err = nil
		if d.release.Pending[0] == gateway.Deregister { // it is tried once more then
			l.metrics.unwritten.Inc()
			l.log.Warn("the journal is full: if this process ends before the sessions of the engine are closed, they stay", "pod", k.NamespacedName, "closeAt", d.release.CloseAt)
		}
	}
	d.written = err == nil
	return err
}

// still tells whether the proof holds right before something is removed: the
// driver is dead, or gone, and alone with its keys.
func (l *loop) still(ctx context.Context, k key, d *death) (dead bool, err error) {
	pod, gone, err := l.look(ctx, k, d)
	if err != nil {
		return false, err
	}
	if !gone {
		driver, err := spark.PodOf(pod)
		if err != nil {
			return false, nil //nolint:nilerr // it is no driver any more
		}
		if _, dead := gateway.DeathOf(driver); !dead {
			return false, nil
		}
	}
	return true, l.alone(ctx, k, d)
}

// begin reads the pod anew and starts its release; it may not be due any more.
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

// due tells whether a pod is a dead engine of the gateway that is to be released.
func (l *loop) due(pod *corev1.Pod, gone bool) (e gateway.Engine, d gateway.Death, due bool) {
	driver, e, ours := l.engine(pod)
	if !ours {
		return e, d, false
	}
	d, due = gateway.Due(driver, gone, l.gateway.Instance())
	return e, d, due
}

// engine of the gateway that a pod is, if it is one where engines run.
func (l *loop) engine(pod *corev1.Pod) (driver spark.Pod, e gateway.Engine, ours bool) {
	driver, err := spark.PodOf(pod)
	if err != nil || driver.Role != spark.Driver || !slices.Contains(l.namespaces, pod.Namespace) {
		return driver, e, false
	}
	e, ours = l.gateway.Engine(driver)
	return driver, e, ours
}

// look at the pod as it is now, or as it was seen last where it is gone.
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

// alone says that no other pod carries one of the engine's keys. Labels can be
// changed, and an address is given to another pod when its owner has ended: only
// a pod that is alone with its keys is the one that the gateway means. Sessions are
// found by the application's id alone; Kyuubi may have launched another engine under
// the same tag by the time that they are closed.
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

// finish marks the driver, so that it is not done again.
// The journal's entry goes last: until then a new process finishes in its place.
func (l *loop) finish(ctx context.Context, k key, d *death, outcome gateway.Outcome) error {
	r := d.release
	mark := gateway.Mark{
		Gateway: gateway.Name, At: time.Now(), Registration: outcome, Sessions: r.Sessions,
		GivenUp: r.GivenUp, Instances: []string{l.gateway.Instance()},
	}
	if pod := l.seen(d); pod != nil { // what other instances looked for, too
		mark.Instances = append(mark.Instances, gateway.MarkOf(pod).Instances...)
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

// mark the driver. That it is gone is no error.
func (l *loop) mark(ctx context.Context, k key, m gateway.Mark) error {
	if err := job.Annotate(ctx, l.api, k, annotations.Released, m.String()); err != nil {
		return fmt.Errorf("marking the driver: %w", err)
	}
	return nil
}
