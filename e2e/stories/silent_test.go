package stories

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

// A probe must not write to Spark's log: people and the detection of stalls read it.
func TestSilent(t *testing.T) {
	s := story{
		name: "silent-probe", why: "no probe causes a log line of a driver or an executor", versions: lab.Versions,
		app: app{file: "long.py", args: []string{"45"}, conf: fast(conf("spark.kubernetes.executor.deleteOnTermination", "false"))},
	}
	s.run(t, func(t *testing.T, version string) {
		with, without := both(t, s.name, version, s.app)
		var wait sync.WaitGroup
		for _, r := range []*run{with, without} {
			wait.Go(func() { r.untilDriverEnds(t) })
		}
		wait.Wait()
		ours := 0
		for _, role := range []string{"driver", "executor"} {
			usual := without.kinds(without.logOf(t, role))
			for kind, n := range with.kinds(with.logOf(t, role)) {
				if usual[kind] > 0 || version == oldest && role == "driver" && atStart.MatchString(kind) {
					continue
				}
				ours += n
				t.Errorf("%s: %d lines only with spark-vitals: %s", role, n, kind)
			}
			// A probe that makes Spark say more often what it says anyway.
			more, asked := total(with.logOf(t, role))-total(without.logOf(t, role)), 10
			if more > asked {
				t.Errorf("%s: %d lines more than without spark-vitals", role, more)
			}
		}
		theTable.add(t, s.name, with, fmt.Sprintf("%d log lines because of probes", ours))
		theTable.add(t, s.name, without, "")
	})
}

// atStart is what Spark 3.5 logs twice when the startup probe succeeds, and never
// again.
var atStart = regexp.MustCompile(`No executor found for`)

func total(log string) int { return strings.Count(log, "\n") }

var varying = regexp.MustCompile(`[0-9a-f]{4,}(-[0-9a-f]{4,})+|@[0-9a-f]+|[0-9a-f]{8,}|[0-9.,:/]*[0-9][0-9.,:/]*`)

// kinds counts log lines that differ only in numbers and names.
func (r *run) kinds(log string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(strings.ReplaceAll(log, r.Namespace, "NAMESPACE")) {
		n[varying.ReplaceAllString(strings.TrimSpace(line), "#")]++
	}
	return n
}
