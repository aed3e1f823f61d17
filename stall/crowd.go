package stall

import "iter"

// fewest is the smallest number of drivers, or namespaces, that makes a mass silence.
const fewest = 5

// Watched is a driver that is watched. It is a suspect if it is silent, and fell silent
// together with the driver in question.
type Watched struct {
	Namespace string
	Suspect   bool
}

// Crowd reports whether it is a mass silence: so many drivers of a namespace fell
// silent together that the reason is more likely outside of them, for example logs that
// do not arrive. That is so if more than half of the namespace's drivers are suspects,
// and one of these is also true:
//   - They are five or more.
//   - The same is so in five or more namespaces, and these are more than half of all.
//
// So pods in other namespaces can hide a stalled driver only if more than half of its
// own namespace's drivers are silent too.
func Crowd(all iter.Seq[Watched], namespace string) bool {
	type tally struct{ suspects, all int }
	by := map[string]tally{}
	for w := range all {
		t := by[w.Namespace]
		t.all++
		if w.Suspect {
			t.suspects++
		}
		by[w.Namespace] = t
	}
	most := func(t tally) bool { return 2*t.suspects > t.all }
	namespaces := tally{all: len(by)}
	for _, t := range by {
		if most(t) {
			namespaces.suspects++
		}
	}
	here := by[namespace]
	return most(here) && (here.suspects >= fewest || namespaces.suspects >= fewest && most(namespaces))
}
