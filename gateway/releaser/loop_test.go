package releaser

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
)

func wordsOf(data []byte) []string {
	return strings.FieldsFunc(string(data), func(r rune) bool { return strings.ContainsRune(`",:{}`, r) })
}

// A dead driver is released in order, reported and marked.
func TestRelease(t *testing.T) {
	pod := dead()
	w := newWorkbench(t, pod)
	w.see(pod, false)
	w.work(0)
	if !slices.Equal(w.gateway.order, []string{"registration", "sessions"}) {
		t.Error(w.gateway.order)
	}
	var mark annotations.ReleaseMark
	if err := json.Unmarshal([]byte(w.mark(pod)), &mark); err != nil || mark.Gateway != "kyuubi" || mark.Registration != annotations.Deregistered || mark.Sessions != 3 {
		t.Error(mark, err)
	}
	if !slices.Equal(w.events(), []string{"EngineReleased"}) || len(w.journal()) > 0 || len(w.loop.deaths) > 0 {
		t.Error(w.events(), w.journal(), w.loop.deaths)
	}
	if sessions := testutil.ToFloat64(w.loop.metrics.sessions); sessions != 3 {
		t.Errorf("%v sessions are counted", sessions)
	}
	if n := testutil.CollectAndCount(w.loop.metrics.seconds); n != 1 {
		t.Errorf("%d times from death to release", n)
	}
	calls := len(w.gateway.calls)
	now := &corev1.Pod{}
	if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		t.Fatal(err)
	}
	w.see(now, false)
	w.work(0)
	if len(w.gateway.calls) != calls {
		t.Error("released twice")
	}
}

// The process may end before or after any call, of the API server or of the
// gateway, and again while sessions are kept: the next one finishes when the
// sessions are due, and reports nothing twice.
func TestRestarts(t *testing.T) {
	for name, c := range map[string]struct {
		keep    time.Duration
		expired bool
	}{
		"closed at once": {}, "kept": {keep: 2 * time.Minute}, "expired": {keep: 2 * time.Minute, expired: true},
	} {
		for crash, over := 1, true; over; crash++ {
			synctest.Test(t, func(t *testing.T) {
				over = restartAt(t, crash, c.keep, c.expired)
			})
			if !over && crash < 10 {
				t.Errorf("%s: only %d calls", name, crash)
			}
		}
	}
}

// restartAt a call of the first process; over is false where it had done less.
func restartAt(t *testing.T, crash int, keep time.Duration, expired bool) (over bool) {
	pod := dead()
	w := newWorkbench(t, pod)
	w.keep = keep
	w.restart()
	want := []string{"registration", "sessions"}
	if expired {
		w.expire(pod)
		want = want[1:]
	}
	left := crash
	count := func() {
		if left--; left == 0 {
			over = true
			panic(errBroken)
		}
	}
	w.before, w.gateway.before = count, count
	begun := time.Now()
	w.see(pod, false)
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(errBroken) {
				panic(p)
			}
		}()
		w.work(time.Hour)
	}()
	w.before, w.gateway.before = nil, nil
	if !over {
		return false
	}
	for range 2 { // also the one that comes next ends
		w.again(pod)
		w.work(time.Minute)
	}
	w.again(pod)
	w.work(time.Hour)
	if !slices.Equal(w.gateway.order, want) || !strings.Contains(w.mark(pod), map[bool]string{false: `"deregistered"`, true: `"expired"`}[expired]) {
		t.Errorf("ended at call %d: %v, %s", crash, w.gateway.order, w.mark(pod))
	}
	if kept := w.gateway.closedAt.Sub(begun); kept < keep || kept > keep+10*time.Second {
		t.Errorf("ended at call %d: sessions were closed after %s", crash, kept)
	}
	if !slices.Equal(w.events(), []string{"EngineReleased"}) || len(w.journal()) > 0 {
		t.Errorf("ended at call %d: %v, %v", crash, w.events(), w.journal())
	}
	return over
}

// again starts a new process, which sees the pod as it is now.
func (w *workbench) again(pod *corev1.Pod) {
	w.t.Helper()
	w.restart()
	w.resume()
	now := &corev1.Pod{}
	if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		w.t.Fatal(err)
	}
	w.see(now, false)
}

func (w *workbench) resume() {
	w.t.Helper()
	if err := w.loop.resume(w.t.Context(), w.queue()); err != nil {
		w.t.Fatal(err)
	}
}

// Died and then deleted: released, also by a new process when it had begun.
func TestDeletedAfterDeath(t *testing.T) {
	pod := dead()
	pod.Annotations = nil // the recorder was too late
	w := newWorkbench(t)
	w.see(pod, true)
	w.work(0)
	if len(w.gateway.order) != 2 || len(w.events()) != 1 {
		t.Error(w.gateway.order, w.events())
	}

	pod = dead()
	w = newWorkbench(t, pod)
	w.see(pod, false)
	w.gateway.before = func() {
		if len(w.gateway.calls) == 1 {
			w.gateway.err = errors.New("away")
		}
	}
	synctest.Test(t, func(*testing.T) { w.work(time.Minute) })
	if err := w.api.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.gateway.before, w.gateway.err = nil, nil
	w.restart()
	w.resume()
	w.work(0)
	if len(w.gateway.order) != 2 || len(w.journal()) > 0 {
		t.Error(w.gateway.order, w.journal())
	}
}

// A watch that broke and began again with a list shows only that a pod is gone. An
// engine that ran then is counted and not released. A dead one is released.
func TestEndNotSeen(t *testing.T) {
	run := func(p *corev1.Pod) {
		p.Annotations = nil
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	for name, c := range map[string]struct {
		last     func(*corev1.Pod) // state that is known
		seen     bool              // the deletion
		unseen   float64
		released bool
	}{
		"it ran":                 {last: run, unseen: 1},
		"it ran and was deleted": {last: run, seen: true},
		"it was being deleted":   {last: func(p *corev1.Pod) { run(p); p.DeletionTimestamp = new(metav1.Now()) }},
		"another's":              {last: func(p *corev1.Pod) { run(p); p.Labels[tagLabel] = "" }},
		"it had ended well":      {last: func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Terminated.ExitCode = 0 }},
		"it had died":            {last: func(p *corev1.Pod) { p.Annotations = nil }, released: true},
	} {
		pod, successor := dead(), dead()
		c.last(pod)
		run(successor)
		successor.UID = "successor"
		successor.Labels = map[string]string{} // of no engine
		for how, show := range map[string]func(*workbench){
			"deleted": func(w *workbench) {
				w.loop.watch().Delete(t.Context(), event.TypedDeleteEvent[*corev1.Pod]{Object: pod, DeleteStateUnknown: !c.seen}, w.queue())
			},
			"replaced under its name": func(w *workbench) {
				w.loop.watch().Update(t.Context(), event.TypedUpdateEvent[*corev1.Pod]{ObjectOld: pod, ObjectNew: successor}, w.queue())
			},
		} {
			if c.seen && how != "deleted" {
				continue
			}
			w := newWorkbench(t)
			show(w)
			w.work(0)
			if unseen, released := testutil.ToFloat64(w.loop.metrics.unseen), len(w.gateway.order) == 2; unseen != c.unseen || released != c.released {
				t.Errorf("%s, %s: %v ends not seen, released: %t", name, how, unseen, released)
			}
		}
	}
}

// What is not due or not proven: the gateway is not asked for anything.
func TestNothingIsDialled(t *testing.T) {
	victim := func() *corev1.Pod { // alive, of the keys that the dead pod claims
		pod := dead()
		pod.Name, pod.UID, pod.Annotations = "victim", "victim", nil
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		return pod
	}
	other := func(change func(*corev1.Pod)) *corev1.Pod {
		pod := victim()
		change(pod)
		return pod
	}
	for name, c := range map[string]struct {
		pod    func(*corev1.Pod)
		others []client.Object
		gone   bool
		event  string
	}{
		"another pod has the tag":             {others: []client.Object{other(func(p *corev1.Pod) { p.Labels = map[string]string{tagLabel: p.Labels[tagLabel]} })}, event: "NotProven"},
		"another driver has the application":  {others: []client.Object{other(func(p *corev1.Pod) { delete(p.Labels, tagLabel) })}, event: "NotProven"},
		"in another namespace with engines":   {others: []client.Object{other(func(p *corev1.Pod) { p.Namespace = "spark" })}, event: "NotProven"},
		"a dead pod relabelled, address used": {others: []client.Object{victim()}, event: "NotProven"},
		"hostNetwork":                         {pod: func(p *corev1.Pod) { p.Spec.HostNetwork = true }, event: "NotProven"},
		"no address":                          {pod: func(p *corev1.Pod) { p.Status.PodIPs = nil }, event: "NotProven"},
		"another namespace":                   {pod: func(p *corev1.Pod) { p.Namespace = "elsewhere" }},
		"empty tag":                           {pod: func(p *corev1.Pod) { p.Labels[tagLabel] = "" }},
		"empty application":                   {pod: func(p *corev1.Pod) { p.Labels["spark-app-selector"] = "" }},
		"an executor":                         {pod: func(p *corev1.Pod) { p.Labels["spark-role"] = "executor"; p.Spec.Containers[0].Args[0] = "executor" }},
		"no driver, only its labels":          {pod: func(p *corev1.Pod) { p.Spec.Containers[0] = corev1.Container{Name: "web"} }},
		"a forged record on a running pod": {pod: func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}},
		"deleted by force, still running": {gone: true, pod: func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: p.Status.StartTime.Time}, new(int64)
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}},
		"died long ago": {pod: func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(time.Now().Add(-2 * tooOld))
		}},
		"released already": {pod: func(p *corev1.Pod) {
			p.Annotations[annotations.Released] = annotations.ReleaseMark{Gateway: "kyuubi", At: time.Now(), Registration: annotations.Deregistered}.String()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := dead()
			if c.pod != nil {
				c.pod(pod)
			}
			objects := c.others
			if !c.gone {
				objects = append(objects, pod)
			}
			w := newWorkbench(t, objects...)
			w.see(pod, c.gone)
			w.work(0)
			if len(w.gateway.calls) > 0 {
				t.Errorf("asked the gateway: %v", w.gateway.calls)
			}
			if want := c.event; want != "" && !slices.Equal(w.events(), []string{want}) || want == "" && len(w.events()) > 0 {
				t.Errorf("events %v", w.events())
			}
		})
	}
}

// The cache says dead, the API server knows better: what was read again counts.
func TestReadAgain(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"it runs": func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		},
		"its labels are another's":  func(p *corev1.Pod) { p.Labels[tagLabel] = "" },
		"its record was taken away": func(p *corev1.Pod) { p.Annotations = nil },
	} {
		now := dead()
		change(now)
		w := newWorkbench(t, now)
		w.see(dead(), false)
		w.work(0)
		if len(w.gateway.calls) > 0 || len(w.loop.deaths) > 0 {
			t.Errorf("%s: %v", name, w.gateway.calls)
		}
	}
	// Another pod of the same name: the one that was seen is gone, and released; the new one is not marked.
	now := dead()
	now.UID = "another"
	now.Labels = map[string]string{}
	w := newWorkbench(t, now)
	w.see(dead(), false)
	w.work(0)
	if len(w.gateway.order) != 2 || w.mark(now) != "" {
		t.Errorf("%v, marked %q", w.gateway.order, w.mark(now))
	}
}

// Without a registration nothing is closed: it is looked for twice, and noted.
func TestNotRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		w := newWorkbench(t, pod)
		w.gateway.registered = false
		w.see(pod, false)
		w.work(time.Minute)
		if !slices.Equal(w.gateway.calls, []string{"registrations", "registrations"}) || !strings.Contains(w.mark(pod), `"not-registered","sessions":0`) || len(w.events()) > 0 {
			t.Errorf("%v, %q, %v", w.gateway.calls, w.mark(pod), w.events())
		}
	})
}

// A gateway that is away is asked again and again, at most some ten seconds
// apart, and never given up.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		w := newWorkbench(t, pod)
		w.gateway.err = errors.New("away")
		var asked []time.Time
		w.gateway.before = func() {
			if asked = append(asked, time.Now()); len(asked) == 100 {
				w.gateway.err = nil
			}
		}
		w.see(pod, false)
		w.work(time.Hour)
		for i := 1; i < 100; i++ {
			if pause := asked[i].Sub(asked[i-1]); pause < firstPause || pause > longestPause*4/3 {
				t.Errorf("pause %s", pause)
			}
		}
		if len(w.gateway.order) != 2 || len(w.events()) != 1 {
			t.Error(w.gateway.order, w.events())
		}
	})
}

// A refusal is reported once, and tried again when the configuration changes.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pod := dead()
		w := newWorkbench(t, pod)
		w.gateway.err = &gateway.Refusal{Reason: gateway.CredentialsRefused, Remedy: "Correct the Secret.", Err: errors.New("403")}
		if err := w.loop.resume(ctx, w.queue()); err != nil {
			t.Fatal(err)
		}
		w.see(pod, false)
		w.work(time.Hour)
		if calls := len(w.gateway.calls); calls < 5 || calls > 7 {
			t.Errorf("%d tries in an hour", calls)
		}
		if !slices.Equal(w.events(), []string{"CredentialsRefused"}) || w.mark(pod) != "" {
			t.Error(w.events(), w.mark(pod))
		}
		if text := w.eventTexts(); strings.Contains(text, "403") || !strings.Contains(text, "Correct the Secret.") {
			t.Error(text)
		}
		if reported := testutil.ToFloat64(w.loop.metrics.refusals); reported != 1 {
			t.Errorf("reported %v times", reported)
		}
		if all, refused := w.loop.pending(); all != 1 || refused != 1 {
			t.Errorf("pending %v, refused %v", all, refused)
		}
		w.added = nil
		w.gateway.set(func() { w.gateway.err, w.gateway.configuration = nil, "changed" })
		time.Sleep(filesPause + time.Second)
		synctest.Wait()
		w.work(0)
		if len(w.gateway.order) != 2 || w.mark(pod) == "" {
			t.Error(w.gateway.order)
		}
	})
}

// An API server that has just started forbids what it allows later. That is believed,
// and reported, only when it happens again and again.
func TestForbidden(t *testing.T) {
	for name, c := range map[string]struct {
		first, second int // lists that are forbidden, and once more after one that was not
		events        []string
	}{
		"while it starts": {first: maxForbidden - 1, events: []string{"EngineReleased"}},
		"twice":           {first: maxForbidden - 1, second: maxForbidden - 1, events: []string{"EngineReleased"}},
		"a right missing": {first: maxForbidden, events: []string{"RightsMissing"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pod := dead()
				w := newWorkbench(t, pod)
				w.forbids = c.first
				w.gateway.before = func() {
					w.gateway.err = nil
					if len(w.gateway.calls) == 0 && c.second > 0 {
						w.forbids, w.gateway.err = c.second, errors.New("away")
					}
				}
				w.see(pod, false)
				w.work(5 * time.Minute)
				if !slices.Equal(w.events(), c.events) || w.forbids > 0 {
					t.Errorf("%v, and %d more were to be forbidden", w.events(), w.forbids)
				}
				w.work(15 * time.Minute) // given later, a right is used
				if w.mark(pod) == "" {
					t.Error("never released")
				}
			})
		})
	}
}

// An entry of the journal that the releaser did not write is not used.
func TestJournalOfStrangers(t *testing.T) {
	w := newWorkbench(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: name},
		Data: map[string]string{"a": "{", "b": `{"uid":"c","found":["node"]}`, "d": `{"uid":"d","pending":["close-sessions"]}`, "e": `{"uid":"e","found":["node"],"pending":["kill"]}`,
			"f": `{"uid":"f","driver":{"Namespace":"spark","Name":"f"},"engine":{"reference":"r","application":"a","addresses":["10.0.0.1"]},"pending":["prove"]}`,
			"g": `{"uid":"g","driver":{"Namespace":"spark","Name":"g"},"engine":{"reference":"r","application":"a","addresses":["10.0.0.1"]},"found":["node"],"pending":["prove","deregister","close-sessions"]}`,
			"h": `{"uid":"h","driver":{"Namespace":"strangers","Name":"h"},"engine":{"reference":"r","application":"a","addresses":["10.0.0.1"]},"found":["node"],"pending":["close-sessions"]}`,
			"i": `{"uid":"i","driver":{"Namespace":"spark","Name":"i"},"engine":{"reference":"","application":"a","addresses":["10.0.0.1"]},"found":["node"],"pending":["close-sessions"]}`},
	})
	w.resume()
	w.work(0)
	if len(w.gateway.calls) > 0 || len(w.journal()) != 8 {
		t.Error(w.gateway.calls, w.journal())
	}
}

// The proof is renewed before each change: a driver that runs again meanwhile, or
// shares its keys with another pod, is not released.
func TestProofIsRenewed(t *testing.T) {
	for name, change := range map[string]func(*workbench, *corev1.Pod){
		"it runs again": func(w *workbench, pod *corev1.Pod) {
			pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			if err := w.api.Status().Update(w.t.Context(), pod); err != nil {
				w.t.Fatal(err)
			}
		},
		"another has its keys": func(w *workbench, pod *corev1.Pod) {
			pod.Name, pod.UID, pod.ResourceVersion = "another", "another", ""
			if err := w.api.Create(w.t.Context(), pod); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		for _, call := range []string{"registrations", "deregister"} {
			t.Run(name+" after "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					pod := dead()
					w := newWorkbench(t, pod)
					w.gateway.before = func() {
						if len(w.gateway.calls) == map[string]int{"registrations": 0, "deregister": 1}[call] {
							now := &corev1.Pod{}
							if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
								t.Fatal(err)
							}
							change(w, now)
						}
					}
					w.see(pod, false)
					w.work(time.Minute)
					if w.gateway.sessions != 3 || w.gateway.registered != (call == "registrations") {
						t.Errorf("%v, %v", w.gateway.calls, w.gateway.order)
					}
				})
			})
		}
	}
}

// A release that cannot be proven ends when the registration has expired, with a mark.
func TestUnproven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		pod.Spec.HostNetwork = true
		w := newWorkbench(t, pod)
		w.see(pod, false)
		w.work(time.Hour)
		if !strings.Contains(w.mark(pod), `"unproven"`) || len(w.loop.deaths) > 0 || !slices.Equal(w.events(), []string{"NotProven"}) {
			t.Errorf("%q, %v", w.mark(pod), w.events())
		}
	})
}

// A driver that can be neither read nor marked is not tried forever either.
func TestGivenUp(t *testing.T) {
	for name, begun := range map[string]bool{"not read": false, "not marked": true} {
		synctest.Test(t, func(t *testing.T) {
			pod := dead()
			pod.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(time.Now().Add(-tooOld + 10*time.Minute))
			w := newWorkbench(t, pod)
			w.see(pod, false)
			w.refuses = func(patch bool) error {
				if patch == begun {
					return apierrors.NewInternalError(errors.New("a webhook fails"))
				}
				return nil
			}
			if w.work(time.Hour); len(w.loop.deaths) != 1 {
				t.Fatalf("%s: given up within 25 h", name)
			}
			if w.work(time.Hour); len(w.loop.deaths) > 0 || len(w.added) > 0 {
				t.Errorf("%s: tried after 26 h", name)
			}
		})
	}
}
