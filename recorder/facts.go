package recorder

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// application identifies the deaths that are written together: those of an
// application's pods in one namespace.
type application struct {
	namespace, id string
	// driver is the driver's UID, if the pod that died knows it. Executors of a
	// StatefulSet do not.
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
	// doubtful facts hold only if the kubelet's Events say that it stopped the container.
	doubtful bool
	// due is when to write it; until then it is another replica's turn.
	due time.Time
}

// termination identifies what facts are about. A later fact may correct the cause.
type termination struct {
	pod    types.UID
	set    string
	number int64
}

func (f *fact) about() termination { return termination{f.pod.UID, f.Set, f.Number} }

// factsOf returns the facts about a pod. It leaves out a doubtful fact that is older
// than the Events that would prove it.
func factsOf(pod *corev1.Pod, now time.Time) (facts []fact) {
	for _, t := range slices.Concat(oom.Terminations(oom.Evidence{Pod: pod}), oom.Ended(oom.Evidence{Pod: pod})) {
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

// latest returns the last known fact about each termination.
func latest(facts []fact) (all []fact) {
	last := map[termination]int{}
	for i := range facts {
		last[facts[i].about()] = i
	}
	for i, f := range facts {
		if last[f.about()] == i {
			all = append(all, f)
		}
	}
	return all
}

// facts are those that wait to be written, by application. A fact stays until it is
// written or its driver is gone.
type facts struct {
	mutex   sync.Mutex
	waiting map[application]*line
	taken   int // and not done yet
}

// line is a queue of facts, each once, in the order in which they became known.
type line struct {
	facts []fact
	known map[known]bool
}

type known struct {
	termination
	cause oom.Cause
}

func (l *line) add(more ...fact) {
	for i := range more {
		if k := (known{more[i].about(), more[i].Cause}); !l.known[k] {
			l.known[k] = true
			l.facts = append(l.facts, more[i])
		}
	}
}

// add adds facts, unless they already wait.
func (f *facts) add(to application, more []fact) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.line(to).add(more...)
}

// again puts back facts that could not be written. They go before facts that came in
// the meantime, which may correct them.
func (f *facts) again(to application, failed []fact) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	since := f.line(to).facts
	delete(f.waiting, to)
	f.line(to).add(slices.Concat(failed, since)...)
}

func (f *facts) line(of application) *line {
	if f.waiting == nil {
		f.waiting = map[application]*line{}
	}
	l := f.waiting[of]
	if l == nil {
		l = &line{known: map[known]bool{}}
		f.waiting[of] = l
	}
	return l
}

// take returns the facts of an application that are due, and when more are due. The
// caller calls done when they are done.
func (f *facts) take(of application, now time.Time) (all []fact, next time.Time, done func()) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	before := f.line(of).facts
	delete(f.waiting, of)
	for _, w := range before {
		if !w.due.After(now) {
			all = append(all, w)
			continue
		}
		if next.IsZero() || w.due.Before(next) {
			next = w.due
		}
		f.line(of).add(w)
	}
	f.taken += len(all)
	return all, next, func() {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		f.taken -= len(all)
	}
}

// hurry makes all facts due.
func (f *facts) hurry() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, l := range f.waiting {
		for i := range l.facts {
			l.facts[i].due = time.Time{}
		}
	}
}

// applications returns the applications that have facts.
func (f *facts) applications() []application {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Collect(maps.Keys(f.waiting))
}

// due returns how many facts are due and not done.
func (f *facts) due(now time.Time) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	n := f.taken
	for _, l := range f.waiting {
		for i := range l.facts {
			if !l.facts[i].due.After(now) {
				n++
			}
		}
	}
	return n
}
