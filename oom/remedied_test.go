package oom_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
)

// What is said of plans, and of executors that were changed.
func TestRemedied(t *testing.T) {
	fewer := annotations.RemedyPlan{Application: "spark-1", Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2, Until: died.Add(time.Hour)}
	heap := fewer
	heap.ToCores, heap.Memory = 1, &annotations.RemedyMemory{FromLimitMiB: 5734, ToLimitMiB: 7987, FromHeapMiB: 4096, ToHeapMiB: 6144}
	beside := fewer
	beside.FromCores, beside.ToCores, beside.Memory = 1, 1, &annotations.RemedyMemory{FromLimitMiB: 5734, ToLimitMiB: 8601, FromHeapMiB: 4096, ToHeapMiB: 4096}
	withdrawn := heap
	withdrawn.Withdrawn = "no executor was created within 30 seconds, so a quota, a LimitRange or another policy may refuse it"
	refused := fewer
	refused.ToCores, refused.Refused = 4, "the driver's UI did not say how many cores a task needs, and the rule has no maxMemory, so memory is not raised"
	done := heap
	done.Refused = "an executor already runs one task at a time, and the rule's maxMemory is 8000 MiB"
	as := func(p annotations.RemedyPlan, change func(*annotations.RemedyPlan)) annotations.RemedyPlan {
		change(&p)
		return p
	}
	audit := func(p *annotations.RemedyPlan) { p.Mode = annotations.Audit }
	ofProfile := func(p *annotations.RemedyPlan) { p.Profile = "2" }
	stamp := func(p annotations.RemedyPlan) *annotations.RemedyStamp {
		s := annotations.RemedyStamp{Memory: p.Memory}
		if p.FewerCores() {
			s.FromCores, s.ToCores = p.FromCores, p.ToCores
		}
		return &s
	}
	var got strings.Builder
	for _, c := range []struct {
		name     string
		driver   string
		cause    oom.Cause
		remedied *annotations.RemedyStamp
		plan     annotations.RemedyPlan
	}{
		{"fewer cores", "spark-4.1.4/driver", oom.OOMKilled, nil, fewer},
		{"in audit", "spark-4.1.4/driver", oom.OOMKilled, nil, as(fewer, audit)},
		{"of a profile", "spark-4.1.4/driver", oom.OOMKilled, nil, as(fewer, ofProfile)},
		{"refused", "spark-4.1.4/driver", oom.OOMKilled, nil, refused},
		{"refused in audit", "spark-4.1.4/driver", oom.OOMKilled, nil, as(refused, audit)},
		{"more heap", "spark-4.1.4/driver", oom.HeapOOM, nil, heap},
		{"more beside the heap", "spark-4.1.4/driver", oom.OOMKilled, nil, beside},
		{"withdrawn", "spark-4.1.4/driver", oom.HeapOOM, nil, withdrawn},
		{"died with fewer cores", "spark-4.1.4/driver", oom.OOMKilled, stamp(fewer), fewer},
		{"died with more heap", "spark-4.1.4/driver", oom.HeapOOM, stamp(heap), done},
		{"died with more beside the heap", "spark-4.1.4/driver", oom.OOMKilled, stamp(beside), beside},
	} {
		driver := capturedPod(t, c.driver)
		term := executorWith(c.cause, time.Hour)
		if term.Remedied = c.remedied; c.remedied != nil {
			if m := c.remedied.Memory; m != nil {
				term.LimitMiB, term.HeapMiB = m.ToLimitMiB, m.ToHeapMiB
			}
			if c.remedied.ToCores > 0 {
				term.Cores = c.remedied.ToCores
			}
		}
		term.SetSettings(settings(1638, 0, 0, 1), driver.Language())
		if c.plan.Profile != "0" {
			term.Profile = c.plan.Profile
		}
		record := oom.Record{Remedy: []annotations.RemedyPlan{c.plan}}
		record.Add(term)
		fmt.Fprintf(&got, "%s, %s\n%s\n%s\n", c.name, c.cause, record.Message(driver), oom.ExplainRemedy(c.plan, driver))
		for _, change := range record.Changes(driver) {
			fmt.Fprintf(&got, "%+v\n", change)
		}
		got.WriteString("\n")
	}
	golden.Holds(t, "testdata/remedied.txt", got.String())
}
