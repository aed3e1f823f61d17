package stories

import (
	"flag"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

// ran counts the stories that ran, so that a wrong name is noticed.
var ran atomic.Int32

var allStories = flag.Bool("all", false, "run all stories on all their versions of Spark, not the selection of CI")

// story is an application, and why it is a test.
type story struct {
	name, why string
	app       app
	// versions of Spark, where not the oldest and the newest.
	versions []string
	// ci is the version of Spark that CI runs it on; "" is none.
	ci string
	// host: it reaches into the node, which must be this machine.
	host bool
}

// versions are those that stories run on by default: the oldest and the newest.
var versions = []string{oldest, newest}

const oldest, newest = "3.5.9", "4.3.0"

// run runs a story on its versions, each as a subtest.
func (s story) run(t *testing.T, test func(*testing.T, string)) {
	on := s.versions
	if on == nil {
		on = versions
	}
	if !*allStories {
		on = []string{s.ci}
	}
	if on[0] == "" {
		return
	}
	t.Run(s.name, func(t *testing.T) {
		ran.Add(1)
		t.Log(s.why)
		if s.host && !theLab.HostAccess() {
			t.Skip("it reaches into the node, which is another machine")
		}
		for _, version := range on {
			t.Run(version, func(t *testing.T) { test(t, version) })
		}
	})
}

func conf(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// fast adds the label that makes the liveness probe fast; see package lab.
func fast(c map[string]string) map[string]string {
	all := maps.Clone(lab.Fast)
	maps.Copy(all, c)
	return all
}
