package releaser

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// running is the same pod while it ran, without a record.
func running(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Annotations = nil
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	return pod
}

// look looks at running engines, as the releaser does every ten seconds.
func (w *workbench) look() {
	w.t.Helper()
	_, _, err := w.loop.look(w.t.Context())
	if err := errors.Join(err, w.loop.syncJournal(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
}

// expire the registration of a pod after it was seen.
func (w *workbench) expire(pod *corev1.Pod) {
	w.t.Helper()
	w.see(running(pod), false)
	w.look()
	w.gateway.set(func() { w.gateway.registered = false })
	w.look()
	w.look()
}

func sigterm(pod *corev1.Pod) {
	pod.Annotations = nil
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(metav1.Now()), new(int64(30))
	pod.Finalizers = []string{"for/test"} // else a fake API server takes no such pod
	pod.Status.ContainerStatuses[0].State.Terminated.ExitCode = 143
}

// An engine that was registered while it ran and is not any more when it has died
// is released with the proof from while it ran: its sessions are closed.
func TestExpired(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(*corev1.Pod)
		gone bool
	}{
		"frozen, and killed":        {},
		"deleted, ended by SIGTERM": {ends: sigterm},
		"the same, and gone":        {ends: sigterm, gone: true},
		"evicted, with its record":  {ends: func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Terminated.ExitCode = 143 }},
		"the node reports it later": {ends: func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.Time{}
			p.Status.Conditions = []corev1.PodCondition{{LastTransitionTime: metav1.Now()}}
		}},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				pod := dead()
				if c.ends != nil {
					c.ends(pod)
				}
				w := newWorkbench(t, pod)
				w.expire(pod)
				if c.gone {
					pod.Finalizers = nil
					if err := errors.Join(w.api.Update(t.Context(), pod.DeepCopy()), client.IgnoreNotFound(w.api.Delete(t.Context(), pod))); err != nil {
						t.Fatal(err)
					}
				}
				if restarts {
					w.restart()
					w.loop.restoreFrom(t, w)
				}
				w.see(pod, c.gone)
				w.work(0)
				if !slices.Equal(w.gateway.order, []string{"sessions"}) || !c.gone && !strings.Contains(w.mark(pod), `"expired","sessions":3`) {
					t.Errorf("restarts: %t: %v, %s", restarts, w.gateway.order, w.mark(pod))
				}
				if text := w.eventTexts(); !strings.Contains(text, "had expired before it ended") {
					t.Error(text)
				}
				w.look()
				if len(w.journal()) > 0 || len(w.loop.tracked) > 0 {
					t.Error(w.journal(), w.loop.tracked)
				}
			})
		}
	}
}

// restoreFrom the journal, without the loops that resume starts.
func (l *loop) restoreFrom(t *testing.T, w *workbench) {
	t.Helper()
	_, running, err := l.journal.read(t.Context(), l.namespaces, l.log)
	if err != nil || len(running) != 1 {
		t.Fatalf("%d running, %v: %v", len(running), err, w.journal())
	}
	for _, r := range running {
		l.restore(r)
	}
}

// What was not seen under the keys and the address of the pod while it ran is no
// proof.
func TestNoProofFromLife(t *testing.T) {
	for name, change := range map[string]func(*workbench, *corev1.Pod){
		"never looked at": func(w *workbench, pod *corev1.Pod) { w.see(running(pod), false) },
		"looked at when it had died": func(w *workbench, pod *corev1.Pod) {
			w.gateway.set(func() { w.gateway.registered = false })
			w.see(running(pod), false)
			w.see(pod, false)
			w.gateway.set(func() { w.gateway.registered = true })
			w.look()
		},
		"of another tag": func(w *workbench, pod *corev1.Pod) {
			was := running(pod)
			was.Labels[tagLabel] = "another"
			w.see(was, false)
			w.look()
		},
		"of another address": func(w *workbench, pod *corev1.Pod) {
			was := running(pod)
			was.Status.PodIPs = []corev1.PodIP{{IP: "10.9.9.9"}}
			w.see(was, false)
			w.look()
		},
		"of another pod of its name": func(w *workbench, pod *corev1.Pod) {
			was := running(pod)
			was.UID = "another"
			w.see(was, false)
			w.look()
		},
		"of a pod that shares its node's address": func(w *workbench, pod *corev1.Pod) {
			was := running(pod)
			was.Spec.HostNetwork = true
			w.see(was, false)
			w.look()
		},
		"of another tag when the look began": func(w *workbench, pod *corev1.Pod) {
			was := running(pod)
			was.Labels[tagLabel] = "another"
			w.see(was, false)
			keys, engines := w.loop.running()
			w.see(running(pod), false)
			w.loop.saw(keys, engines, [][]gateway.Registration{{"node"}})
		},
		"too many": func(w *workbench, pod *corev1.Pod) {
			w.see(running(pod), false)
			keys, engines := w.loop.running()
			w.loop.saw(keys, engines, [][]gateway.Registration{make([]gateway.Registration, 17)})
		},
		"too long": func(w *workbench, pod *corev1.Pod) {
			w.see(running(pod), false)
			keys, engines := w.loop.running()
			w.loop.saw(keys, engines, [][]gateway.Registration{{gateway.Registration(strings.Repeat("x", 5<<10))}})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			pod := dead()
			w := newWorkbench(t, pod)
			change(w, pod)
			w.gateway.set(func() { w.gateway.registered = false })
			w.see(pod, false)
			w.work(time.Minute)
			if len(w.gateway.order) > 0 || !strings.Contains(w.mark(pod), "not-registered") {
				t.Errorf("%s: %v, %s", name, w.gateway.order, w.mark(pod))
			}
		})
	}
}

// A pod that is given another tag has another proof.
func TestRelabelledWhileItRan(t *testing.T) {
	pod := dead()
	was := running(pod)
	was.Labels[tagLabel] = "another"
	w := newWorkbench(t, pod)
	w.see(was, false)
	w.expire(pod)
	w.see(pod, false)
	w.work(0)
	if !slices.Equal(w.gateway.order, []string{"sessions"}) {
		t.Error(w.gateway.order)
	}
}

// An engine that runs and is not registered is written down at the second look;
// the entry goes when it is registered again, or ends without a death that can be
// shown, also while no releaser runs.
func TestFrozenIsWrittenDown(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*workbench, *corev1.Pod)
		left int
	}{
		"still frozen":     {func(*workbench, *corev1.Pod) {}, 1},
		"registered again": {func(w *workbench, _ *corev1.Pod) { w.gateway.registered = true }, 0},
		"gone, running":    {func(w *workbench, pod *corev1.Pod) { w.see(pod, true) }, 0},
		"ended well": {func(w *workbench, pod *corev1.Pod) {
			pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
			w.see(pod, false)
		}, 0},
		"relabelled": {func(w *workbench, pod *corev1.Pod) { pod.Labels[tagLabel] = ""; w.see(pod, false) }, 0},
		"gone while no releaser runs": {func(w *workbench, pod *corev1.Pod) {
			if err := w.api.Delete(w.t.Context(), pod); err != nil {
				w.t.Fatal(err)
			}
			w.restart()
			w.loop.restoreFrom(w.t, w)
		}, 0},
		"no releaser runs for a while": {func(w *workbench, _ *corev1.Pod) {
			w.restart()
			w.loop.restoreFrom(w.t, w)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			pod := running(dead())
			w := newWorkbench(t, pod)
			w.see(pod, false)
			w.look()
			w.gateway.registered = false
			w.look()
			if len(w.journal()) > 0 {
				t.Error("written down by the first look without it")
			}
			w.look()
			w.look()
			if len(w.journal()) != 1 || w.journal()[string(pod.UID)+runningSuffix] == "" {
				t.Error(w.journal())
			}
			c.then(w, pod)
			w.look()
			w.look()
			if len(w.journal()) != c.left || len(w.gateway.calls) > 0 {
				t.Error(w.journal(), w.gateway.calls)
			}
		})
	}
}

// If ZooKeeper loses all engines at once, those that are written down leave space for
// releases.
func TestFewEnginesAreWrittenDown(t *testing.T) {
	w := newWorkbench(t)
	for i := range 3 * maxWritten / 2 {
		pod := running(dead())
		pod.UID, pod.Name = types.UID(fmt.Sprintf("u-%d", i)), fmt.Sprintf("driver-%d", i)
		if err := w.api.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		w.see(pod, false)
	}
	w.look()
	w.gateway.registered = false
	for range 4 {
		w.look()
	}
	if n := len(w.journal()); n != maxWritten || testutil.ToFloat64(w.loop.metrics.unwritten) != maxWritten/2 || len(w.loop.trackedThat((*tracked).isUnregistered)) != maxWritten*3/2 {
		t.Errorf("%d are written down, %v not, of %v", n, testutil.ToFloat64(w.loop.metrics.unwritten), len(w.loop.trackedThat((*tracked).isUnregistered)))
	}
	w.gateway.registered = true
	if w.look(); len(w.journal()) > 0 {
		t.Errorf("%d are left", len(w.journal()))
	}
}

// Looks take a small share of the time and are one at a time; without an engine
// that runs nothing is read, and a look that fails keeps no death waiting.
func TestLooks(t *testing.T) {
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		takes time.Duration
		away  error
		looks int // in ten minutes
	}{
		"quick":       {pod: running(dead()), takes: 100 * time.Millisecond, looks: 60},
		"slow":        {pod: running(dead()), takes: 4 * time.Second, looks: 14},
		"away":        {pod: running(dead()), away: errors.New("away"), looks: 60},
		"none runs":   {pod: dead()},
		"no pod":      {},
		"another pod": {pod: func() *corev1.Pod { p := running(dead()); p.Labels[tagLabel] = ""; return p }()},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkbench(t)
			w.gateway.takes, w.gateway.away = c.takes, c.away
			if c.pod != nil {
				w.see(c.pod, false)
			}
			w.added = nil
			looking, stop := context.WithCancel(t.Context())
			go w.loop.keepLooking(looking)
			defer stop()
			time.Sleep(10 * time.Minute)
			w.gateway.set(func() {
				if failed := testutil.ToFloat64(w.loop.metrics.lookFailures); w.gateway.looks != c.looks || (failed > 0) != (c.away != nil) {
					t.Errorf("%s: %d looks, of which %v failed", name, w.gateway.looks, failed)
				}
			})
		})
	}
}

// A replica that stands by looks too, and writes nothing. When it leads, a registration
// that is gone by then still leaves the proof.
func TestStandbyLooks(t *testing.T) {
	pod := dead()
	w := newWorkbench(t, pod)
	w.loop.leads.Store(false)
	note := func(pod *corev1.Pod, gone bool) {
		w.loop.lock.Lock()
		defer w.loop.lock.Unlock()
		w.loop.judge(pod, gone)
	}
	another := running(dead())
	another.Name, another.UID = "another", "another"
	note(running(pod), false)
	note(another, false)
	w.look()
	w.gateway.set(func() { w.gateway.registered = false })
	w.look()
	w.look()
	note(another, true)
	if len(w.journal()) > 0 || len(w.loop.tracked) != 1 {
		t.Errorf("%v is written, %d live", w.journal(), len(w.loop.tracked))
	}
	w.loop.leads.Store(true)
	w.see(pod, false)
	w.work(0)
	if !slices.Equal(w.gateway.order, []string{"sessions"}) || !strings.Contains(w.mark(pod), `"expired","sessions":3`) {
		t.Error(w.gateway.order, w.mark(pod))
	}
}
