package stall

// State is what is known of a watched driver's log, compared with a stalled driver.
type State int

// The states.
const (
	Logs       State = iota // it was written later, or fell silent at another time
	FellSilent              // together with the stalled driver's
	Late                    // not known: it is due to be read
	Unread                  // not known: it cannot be read, and that may last
	states
)

// Watched is a watched driver.
type Watched struct {
	Namespace string
	State     State
}

// MassSilence is how certain a mass silence is: so many drivers of a namespace fell
// silent together that the reason is more likely outside of them, for example logs that
// do not arrive.
type MassSilence int

// The values, each of which implies those before it.
const (
	None     MassSilence = iota
	Possible             // if those that are late fell silent too
	Probable             // by those for which it is known
	Certain              // even if all others still log
)

// fewest is the smallest number of drivers, or namespaces, that makes a mass silence.
const fewest = 5

// MassSilenceOf returns how certain it is that a namespace has a mass silence. It has
// one if more than half of its drivers fell silent together, and one of these is also
// true:
//   - They are five or more.
//   - The same is so in five or more namespaces, and these are more than half of all.
//
// So pods in other namespaces can hide a stalled driver only if more than half of its
// own namespace's drivers are silent too.
func MassSilenceOf(watched []Watched, namespace string) MassSilence {
	byNamespace := map[string][states]int{}
	for _, w := range watched {
		n := byNamespace[w.Namespace]
		n[w.State]++
		byNamespace[w.Namespace] = n
	}
	for m := Certain; m > None; m-- {
		var namespaces share
		for _, n := range byNamespace {
			drivers := m.count(n)
			namespaces.all += min(drivers.all, 1)
			if drivers.isMost() {
				namespaces.silent++
			}
		}
		here := m.count(byNamespace[namespace])
		if here.isMost() && (here.silent >= fewest || namespaces.silent >= fewest && namespaces.isMost()) {
			return m
		}
	}
	return None
}

// count returns the share of silent drivers. The value decides how it counts drivers
// with an unknown state.
func (m MassSilence) count(n [states]int) share {
	s := share{n[FellSilent], n[FellSilent] + n[Logs]}
	switch m {
	case Certain:
		s.all += n[Late] + n[Unread]
	case Possible:
		s.silent, s.all = s.silent+n[Late], s.all+n[Late]
	default: // only those for which it is known
	}
	return s
}

// share is how many of all drivers, or namespaces, are silent.
type share struct{ silent, all int }

func (s share) isMost() bool { return 2*s.silent > s.all }
