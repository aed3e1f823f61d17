package stall

import "iter"

// fewest that are a crowd, and more than half of all must be in it.
const fewest = 5

// Watched is a driver that is watched. It is a suspect when it looks stalled, or
// was reported only lately.
type Watched struct {
	Namespace string
	Suspect   bool
}

// Crowd tells whether so many look stalled at once that the reason is more likely
// outside of them, such as logs that do not arrive: more than half of the drivers
// of a namespace, or of the namespaces. Who makes many pods in one namespace can
// so spoil what is seen in that one only.
func Crowd(all iter.Seq[Watched], namespace string) bool {
	var here, everywhere struct{ suspects, all int }
	suspected := map[string]bool{}
	for w := range all {
		suspected[w.Namespace] = suspected[w.Namespace] || w.Suspect
		if w.Namespace != namespace {
			continue
		}
		here.all++
		if w.Suspect {
			here.suspects++
		}
	}
	for _, suspect := range suspected {
		everywhere.all++
		if suspect {
			everywhere.suspects++
		}
	}
	crowded := func(suspects, all int) bool { return suspects >= fewest && 2*suspects > all }
	return crowded(here.suspects, here.all) || crowded(everywhere.suspects, everywhere.all)
}
