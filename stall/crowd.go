package stall

import "iter"

// fewest that are a crowd.
const fewest = 5

// Watched is a driver that is watched. It is a suspect when it is silent, and
// fell so together with the one in question.
type Watched struct {
	Namespace string
	Suspect   bool
}

// Crowd tells whether so many in a namespace fell silent at once that the reason
// is more likely outside of them, such as logs that do not arrive: more than half
// of its drivers. They are five or more, or the same is so in five or more
// namespaces that are more than half of all. Who makes pods in other namespaces
// can so hide a driver only where more than half are silent with it.
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
