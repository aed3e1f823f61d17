package recorder

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// application is whose deaths are written together: its pods in one namespace.
type application struct {
	namespace, id string
	// driver is the driver's UID, as far as the pod that died knows it: the
	// executors that a StatefulSet made do not.
	driver types.UID
}

func applicationOf(pod spark.Pod) application {
	a := application{namespace: pod.Namespace, id: pod.Application()}
	if owner, ok := pod.Driver(); ok {
		a.driver = owner.UID
	} else if pod.Role == spark.Driver {
		a.driver = pod.UID
	}
	return a
}

// fact is a termination, with the pod as it was seen.
type fact struct {
	oom.Termination
	pod *corev1.Pod
	// doubtful facts hold if the kubelet told of stopping the container, which
	// its Events say.
	doubtful bool
	// due to be written; until then it is another replica's turn.
	due time.Time
}

func (f *fact) key() string {
	return f.Set + " " + strconv.FormatInt(f.Number, 10)
}

// factsOf a pod. Doubtful ones that are older than the Events that would prove
// them are none.
func factsOf(pod *corev1.Pod, now time.Time) (facts []fact) {
	for _, t := range oom.Terminations(oom.Evidence{Pod: pod}) {
		facts = append(facts, fact{Termination: t, pod: pod})
	}
	for _, t := range oom.Terminations(oom.Evidence{Pod: pod, Killing: true}) {
		if t.Cause == oom.Hung && now.Sub(t.At.Time) < oldest {
			facts = append(facts, fact{Termination: t, pod: pod, doubtful: true})
		}
	}
	return facts
}

func split(facts []fact) (certain, doubtful []fact) {
	for _, f := range facts {
		if f.doubtful {
			doubtful = append(doubtful, f)
		} else {
			certain = append(certain, f)
		}
	}
	return certain, doubtful
}

// latest of facts: of one termination the last that is known.
func latest(facts []fact) (all []fact) {
	for _, f := range facts {
		all = append(slices.DeleteFunc(all, func(a fact) bool { return a.key() == f.key() && a.pod.UID == f.pod.UID }), f)
	}
	return all
}

// facts that wait to be written, by application. A fact stays until it is
// written or its driver is gone.
type facts struct {
	mutex   sync.Mutex
	waiting map[application][]fact
	taken   int // and not done yet
}

// add facts, unless they already wait.
func (f *facts) add(to application, more []fact) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.waiting == nil {
		f.waiting = map[application][]fact{}
	}
	all := f.waiting[to]
	for _, m := range more {
		same := func(w fact) bool { return w.key() == m.key() && w.Cause == m.Cause }
		if !slices.ContainsFunc(all, same) {
			all = append(all, m)
		}
	}
	f.waiting[to] = all
}

// take the facts of an application that are due, and say when they are done, and
// when more are due.
func (f *facts) take(of application, now time.Time) (all []fact, next time.Time, done func()) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var later []fact
	for _, w := range f.waiting[of] {
		switch {
		case !w.due.After(now):
			all = append(all, w)
		case len(later) == 0 || w.due.Before(next):
			next = w.due
			fallthrough
		default:
			later = append(later, w)
		}
	}
	if f.waiting[of] = later; len(later) == 0 {
		delete(f.waiting, of)
	}
	f.taken += len(all)
	return all, next, func() {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		f.taken -= len(all)
	}
}

// hurry: all that waits is due.
func (f *facts) hurry() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, all := range f.waiting {
		for i := range all {
			all[i].due = time.Time{}
		}
	}
}

// applications that facts wait for.
func (f *facts) applications() []application {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Collect(maps.Keys(f.waiting))
}

// due are those that are to be written now, and are not done.
func (f *facts) due(now time.Time) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	n := f.taken
	for _, all := range f.waiting {
		for _, w := range all {
			if !w.due.After(now) {
				n++
			}
		}
	}
	return n
}
