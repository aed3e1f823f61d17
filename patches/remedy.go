package patches

import (
	"fmt"
	"slices"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedy gives an executor the cores of its application's plan: earlier executors died
// of memory, and with fewer cores it runs fewer tasks at a time. Every entrypoint of
// Spark's passes SPARK_EXECUTOR_CORES on. The executor registers with it, and the
// scheduler counts that. The container's CPU request and limit stay.
//
// It stamps what the rule allows on each executor that it could change. The recorder
// makes plans only for applications with that stamp.
//
// It leaves the executor alone if
//   - its plan cannot be known, because the webhook does not know all drivers yet;
//   - the container has a command of its own, or its cores are not in the pod;
//   - a StatefulSet or Deployment makes all executors alike;
//   - the plan is for another application, resource profile, or number of cores.
func remedy(p *Pod, c policy.Choice) {
	const field = "remedy"
	rule := c.Rule.Remedy
	if rule == nil || rule.Mode == policy.Disabled || p.Role != spark.Executor {
		return
	}
	earlier := annotations.ReadRemedyStamp(p.Annotations[annotations.Remedied])
	changed := p.wasSet(field) && earlier.Mode == "" && earlier.ToCores > 0 && earlier.ToCores == p.Cores() // in an earlier round
	if why := p.unfitForRemedy(c); why != "" && !changed {
		p.leave(field, why)
		return
	}
	mode := rule.Mode
	if p.audit {
		mode = policy.Audit
	}
	p.stamp(annotations.RemedyRule, annotations.RemedyTerms{Mode: mode, AfterDeaths: rule.AfterDeaths}.String())
	plan := c.Plan
	switch {
	case changed:
		p.stamp(annotations.Remedied, earlier.String())
	case plan == nil || !plan.Changes() || plan.FromCores != p.Cores() || plan.Application != p.Application() || plan.Profile != p.ResourceProfile():
		return // that nothing died of memory is of no interest
	default:
		earlier = annotations.RemedyStamp{FromCores: plan.FromCores, ToCores: plan.ToCores}
		if mode == policy.Audit || plan.Mode != policy.Enabled {
			earlier.Mode, p.remedied = policy.Audit, policy.Audit
		} else {
			p.setCores(plan.ToCores)
			p.remedied = policy.Enabled
		}
		p.stamp(annotations.Remedied, earlier.String())
	}
	if earlier.Mode == policy.Audit && !p.audit {
		p.leave(field, fmt.Sprintf("in audit: it would have %d cores instead of %d, because earlier executors died of memory", earlier.ToCores, earlier.FromCores))
		return
	}
	p.did(field, fmt.Sprintf("it has %d cores instead of %d, because earlier executors died of memory", earlier.ToCores, earlier.FromCores))
}

// unfitForRemedy says why the executor's cores cannot be changed, or "".
func (p *Pod) unfitForRemedy(c policy.Choice) string {
	switch {
	case c.NoRemedy != "":
		return c.NoRemedy
	case p.FromWorkload():
		return "a StatefulSet or Deployment makes all executors alike"
	case len(p.Container().Command) > 0:
		return "the container has a command of its own"
	case p.Cores() == 0:
		return "the pod does not show its cores"
	}
	return ""
}

// setCores sets the variable in which Spark tells an executor its cores. If it is there
// several times, the kubelet takes the last.
func (p *Pod) setCores(cores int) {
	all := p.Container().Env
	for i := range slices.Backward(all) {
		if all[i].Name == spark.ExecutorCores {
			p.setEnv(i, fmt.Sprint(cores))
			return
		}
	}
}
