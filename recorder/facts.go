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
	// seen is when this replica saw it first.
	seen time.Time
	// due is when to write it; until then another replica may write it.
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
		facts = append(facts, fact{Termination: t, pod: pod, seen: now})
	}
	for _, t := range oom.Terminations(oom.Evidence{Pod: pod, Killing: true}) {
		if t.Cause == oom.Hung && now.Sub(t.At.Time) < oldest {
			facts = append(facts, fact{Termination: t, pod: pod, doubtful: true, seen: now})
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
	waiting map[application]*pending
	taken   int // and not done yet
}

// pending are facts of one application, each once, in the order in which they became
// known.
type pending struct {
	facts []fact
	known map[what]bool
}

// what a fact says.
type what struct {
	termination
	cause oom.Cause
}

// add adds facts, unless they already wait.
func (f *facts) add(to application, more []fact) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.append(to, more)
}

func (f *facts) append(to application, more []fact) {
	if f.waiting == nil {
		f.waiting = map[application]*pending{}
	}
	p := f.waiting[to]
	if p == nil && len(more) > 0 {
		p = &pending{known: map[what]bool{}}
		f.waiting[to] = p
	}
	for i := range more {
		if w := (what{more[i].about(), more[i].Cause}); !p.known[w] {
			p.known[w] = true
			p.facts = append(p.facts, more[i])
		}
	}
}

// all returns the facts of an application that wait.
func (f *facts) all(of application) []fact {
	if p := f.waiting[of]; p != nil {
		return p.facts
	}
	return nil
}

// take returns the facts of an application that are due, and when more are due. The
// caller calls done afterwards.
func (f *facts) take(of application, now time.Time) (all []fact, next time.Time) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var later []fact
	for _, w := range f.all(of) {
		switch {
		case !w.due.After(now):
			all = append(all, w)
			continue
		case next.IsZero() || w.due.Before(next):
			next = w.due
		}
		later = append(later, w)
	}
	delete(f.waiting, of)
	f.append(of, later)
	f.taken += len(all)
	return all, next
}

// done ends what take began. Facts that could not be written wait again. They go before
// facts that came in the meantime, which may correct them.
func (f *facts) done(of application, all []fact, written bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.taken -= len(all)
	if !written {
		since := f.all(of)
		delete(f.waiting, of)
		f.append(of, all)
		f.append(of, since)
	}
}

// hurry makes all facts due.
func (f *facts) hurry() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, p := range f.waiting {
		for i := range p.facts {
			p.facts[i].due = time.Time{}
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
	for _, p := range f.waiting {
		for i := range p.facts {
			if !p.facts[i].due.After(now) {
				n++
			}
		}
	}
	return n
}
