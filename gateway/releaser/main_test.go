package releaser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

const tagLabel = gateway.Label

// simple is a gateway of one engine, in memory. Every call but Engine counts as
// a call to the outside.
type simple struct {
	lock          sync.Mutex
	registered    bool
	sessions      int
	calls         []string
	err           error
	configuration string
	order         []string // what was removed
	before        func()   // each call
	looks         int
	away          error         // of a look
	takes         time.Duration // a look
	removedAt     time.Time
	closedAt      time.Time
	closes        func() // sessions
}

func (*simple) Instance() string { return "here" }

func (*simple) Engine(d spark.Pod) (gateway.Engine, bool) {
	e := gateway.Engine{Reference: d.Labels[tagLabel], Application: d.Application(), Addresses: gateway.Addresses(d.Pod)}
	return e, e.Reference != "" && e.Application != ""
}

func (s *simple) call(name string) error {
	if s.before != nil {
		s.before()
	}
	s.calls = append(s.calls, name)
	return s.err
}

func (s *simple) Registrations(context.Context, gateway.Engine) ([]gateway.Registration, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if err := s.call("registrations"); err != nil || !s.registered {
		return nil, err
	}
	return []gateway.Registration{"node"}, nil
}

func (s *simple) Look(_ context.Context, engines []gateway.Engine) ([][]gateway.Registration, error) {
	time.Sleep(s.takes)
	s.lock.Lock()
	defer s.lock.Unlock()
	s.looks++
	if s.away != nil {
		return nil, s.away
	}
	found := make([][]gateway.Registration, len(engines))
	if s.registered {
		for i := range found {
			found[i] = []gateway.Registration{"node"}
		}
	}
	return found, nil
}

func (s *simple) Deregister(_ context.Context, r *gateway.Release) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if err := s.call("deregister"); err != nil {
		return err
	}
	if len(r.Found) != 1 || r.Found[0] != "node" {
		return fmt.Errorf("asked to remove %q", r.Found)
	}
	if s.registered {
		s.order, s.removedAt = append(s.order, "registration"), time.Now()
	}
	s.registered = false
	return nil
}

func (s *simple) CloseSessions(context.Context, *gateway.Release) ([]gateway.Closed, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if err := s.call("close"); err != nil {
		return nil, err
	}
	if s.sessions > 0 {
		s.order, s.closedAt = append(s.order, "sessions"), time.Now()
	}
	if s.closes != nil {
		s.closes()
	}
	n := s.sessions
	s.sessions = 0
	return []gateway.Closed{{Server: "server", Sessions: n}}, nil
}

func (s *simple) Configuration() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.configuration
}

func (s *simple) set(change func()) {
	s.lock.Lock()
	defer s.lock.Unlock()
	change()
}

// workbench is an API server in memory and a releaser on it.
type workbench struct {
	t       *testing.T
	api     client.WithWatch
	gateway *simple
	loop    *loop
	added   []key
	before  func()                 // each call of the API
	forbids int                    // lists of the pods of spark, from now on
	refuses func(patch bool) error // reads and status patches of a pod
	keep    time.Duration
	full    bool // the journal
}

var errBroken = errors.New("the process has ended")

// newWorkbench has an API server that takes our merge patches of a pod's status as a
// real one does: annotations are written, a wrong UID is 422.
func newWorkbench(t *testing.T, objects ...client.Object) *workbench {
	w := &workbench{t: t, gateway: &simple{registered: true, sessions: 3}}
	w.api = fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, _ string, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
			w.called()
			if err := w.refused(true); err != nil {
				return err
			}
			now := &corev1.Pod{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), now); err != nil {
				return err
			}
			if data, _ := p.Data(o); !contains(data, string(now.UID)) {
				return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Pod").GroupKind(), o.GetName(), field.ErrorList{field.Invalid(field.NewPath("metadata.uid"), "", "field is immutable")})
			}
			return c.Patch(ctx, o, p)
		},
		Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			w.called()
			if _, is := o.(*corev1.ConfigMap); is && k.Namespace != "spark-vitals" {
				t.Errorf("ConfigMap %s is read: a stranger may have written it", k)
			}
			if _, is := o.(*corev1.Pod); is {
				if err := w.refused(false); err != nil {
					return err
				}
			}
			return c.Get(ctx, k, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			w.called()
			in := (&client.ListOptions{}).ApplyOptions(opts).Namespace
			if _, pods := l.(*metav1.PartialObjectMetadataList); pods && in == "spark" && w.forbids > 0 {
				w.forbids--
				return apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New("no RBAC policy matched"))
			}
			return c.List(ctx, l, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			_, is := o.(*corev1.ConfigMap)
			if data, _ := p.Data(o); is && w.full && !contains(data, "null") {
				return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("ConfigMap").GroupKind(), o.GetName(), field.ErrorList{field.TooLong(field.NewPath("data"), "", 1<<20)})
			}
			if is {
				w.called()
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.called()
			return c.Create(ctx, o, opts...)
		},
	}).Build()
	w.restart()
	return w
}

func contains(data []byte, text string) bool {
	return slices.Contains(wordsOf(data), text)
}

func (w *workbench) called() {
	if w.before != nil {
		w.before()
	}
}

func (w *workbench) refused(patch bool) error {
	if w.refuses == nil {
		return nil
	}
	return w.refuses(patch)
}

// restart is a new process.
func (w *workbench) restart() {
	w.added = nil
	w.loop = newLoop(Config{
		Gateway:    func(client.Reader) gateway.Gateway { return w.gateway },
		Namespaces: []string{"kyuubi", "spark"}, Namespace: "spark-vitals", KeepSessions: w.keep,
		Log: slog.New(slog.DiscardHandler),
	}, w.api)
	w.loop.leads.Store(true)
}

// adds is a queue that only notes what is added.
type adds struct {
	queue
	workbench *workbench
}

func (a adds) Add(k key) { a.workbench.added = append(a.workbench.added, k) }

func (w *workbench) queue() queue { return adds{workbench: w} }

// see shows the releaser a pod, as a watch does.
func (w *workbench) see(pod *corev1.Pod, gone bool) {
	w.t.Helper()
	w.loop.see(pod, gone, w.queue())
}

// work until nothing is to be done, for a while at most.
func (w *workbench) work(limit time.Duration) {
	w.t.Helper()
	end := time.Now().Add(limit)
	for len(w.added) > 0 {
		k := w.added[0]
		result, err := w.loop.Reconcile(w.t.Context(), k)
		if err != nil {
			w.t.Fatal(err)
		}
		if result.RequeueAfter == 0 {
			w.added = w.added[1:]
			continue
		}
		if time.Now().Add(result.RequeueAfter).After(end) {
			return
		}
		time.Sleep(result.RequeueAfter)
	}
}

// dead is the recorded driver with its record.
func dead() *corev1.Pod {
	pod := kyuubitest.DriverOOMKilled()
	pod.ResourceVersion = ""
	pod.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.Now()
	pod.Annotations = map[string]string{annotations.State: "KILLED", annotations.Reason: "DriverOOMKilled"}
	return pod
}

// mark of a pod; "" for none, and where the pod is gone.
func (w *workbench) mark(pod *corev1.Pod) string {
	w.t.Helper()
	now := &corev1.Pod{}
	if err := client.IgnoreNotFound(w.api.Get(w.t.Context(), client.ObjectKeyFromObject(pod), now)); err != nil {
		w.t.Fatal(err)
	}
	return now.Annotations[annotations.Released]
}

func (w *workbench) events() (reasons []string) {
	w.t.Helper()
	var list corev1.EventList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list.Items {
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

func (w *workbench) eventTexts() string {
	w.t.Helper()
	var list corev1.EventList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	var texts strings.Builder
	for _, e := range list.Items {
		texts.WriteString(e.Message + "\n")
	}
	return texts.String()
}

func (w *workbench) journal() map[string]string {
	w.t.Helper()
	var kept corev1.ConfigMapList
	if err := w.api.List(w.t.Context(), &kept, client.InNamespace("spark-vitals")); err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{}
	for _, shard := range kept.Items {
		maps.Copy(all, shard.Data)
	}
	return all
}
