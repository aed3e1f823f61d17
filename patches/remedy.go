package patches

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedy gives an executor what its application's plan says, because earlier executors
// died of memory:
//   - Fewer cores, so that it runs fewer tasks at a time. Every entrypoint of Spark's
//     passes SPARK_EXECUTOR_CORES on. The executor registers with it, and the scheduler
//     counts that. The container's CPU request and limit stay.
//   - More memory: the container's limit, and the heap, which the entrypoint reads from
//     SPARK_EXECUTOR_MEMORY. The request stays: an executor for which no node has room
//     would wait for ever, because Spark does not replace it.
//
// It stamps what the rule allows on each executor that it could change. The recorder
// makes plans only for applications with that stamp.
//
// It leaves the executor alone if
//   - its plan cannot be known, because the webhook does not know all drivers yet;
//   - the container has a command of its own, or its cores are not in the pod;
//   - a StatefulSet or Deployment makes all executors alike;
//   - the plan is for another application or resource profile, or for an executor with
//     other cores or another memory.
func remedy(p *Pod, c policy.Choice) {
	const field = "remedy"
	rule := c.Rule.Remedy
	if rule == nil || rule.Mode == policy.Disabled || p.Role != spark.Executor {
		return
	}
	terms := annotations.RemedyTerms{Mode: rule.Mode, AfterDeaths: rule.AfterDeaths, MaxMemoryMiB: rule.MaxMemoryMiB(), NextRun: rule.Carries()}
	stamp, earlier := p.earlierRemedy(terms)
	if why := p.unfitForRemedy(c); why != "" && !earlier {
		p.leave(field, why)
		return
	}
	if p.audit {
		terms.Mode = policy.Audit
	}
	p.stamp(annotations.RemedyRule, terms.String())
	if !earlier {
		stamp = p.planned(c.Plan, terms)
		if stamp == (annotations.RemedyStamp{}) {
			return // that nothing died of memory is of no interest
		}
		p.remedied = policy.Audit
		if stamp.Mode == "" {
			p.remedied = policy.Enabled
			p.give(stamp)
		}
	}
	p.stamp(annotations.Remedied, stamp.String())
	if stamp.Mode == policy.Audit && !p.audit {
		p.leave(field, "in audit: it would have "+changesOf(stamp)+becauseExecutors)
		return
	}
	p.did(field, "it has "+changesOf(stamp)+becauseExecutors)
}

const becauseExecutors = ", because earlier executors died of memory"

// planned returns what the executor is to get of a plan, as its stamp. It is empty if
// that is nothing.
func (p *Pod) planned(plan *annotations.RemedyPlan, terms annotations.RemedyTerms) (stamp annotations.RemedyStamp) {
	if plan == nil || plan.Application != p.Application() || plan.Profile != p.ResourceProfile() || plan.Run != "" && terms.NextRun == "" {
		return stamp
	}
	if plan.FewerCores() && plan.FromCores == p.Cores() {
		stamp.FromCores, stamp.ToCores = plan.FromCores, plan.ToCores
	}
	if plan.MoreMemory() && plan.Memory.ToLimitMiB <= terms.MaxMemoryMiB && p.hasMemory(plan.Memory.FromLimitMiB, plan.Memory.FromHeapMiB) {
		memory := *plan.Memory
		memory.Executors = 0
		stamp.Memory = &memory
	}
	audit := terms.Mode == policy.Audit || plan.Mode != policy.Enabled || plan.Run != "" && terms.NextRun == policy.Audit
	if stamp != (annotations.RemedyStamp{}) && audit {
		stamp.Mode = policy.Audit
	}
	return stamp
}

// earlierRemedy returns what an earlier round gave the executor and it still has. Anyone
// can write the stamp, so it only decides the wording.
func (p *Pod) earlierRemedy(terms annotations.RemedyTerms) (stamp annotations.RemedyStamp, ok bool) {
	stamp = annotations.ReadRemedyStamp(p.Annotations[annotations.Remedied])
	if !p.wasSet("remedy") || stamp.Mode != "" {
		return annotations.RemedyStamp{}, false
	}
	if stamp.ToCores != p.Cores() {
		stamp.FromCores, stamp.ToCores = 0, 0
	}
	if m := stamp.Memory; m != nil && (m.ToLimitMiB > terms.MaxMemoryMiB || !p.hasMemory(m.ToLimitMiB, m.ToHeapMiB)) {
		stamp.Memory = nil
	}
	return stamp, stamp != annotations.RemedyStamp{}
}

// hasMemory reports whether the container's own limit and the heap are these, in MiB.
func (p *Pod) hasMemory(limit, heap int64) bool {
	return p.asksFor(limit) && p.Memory().Heap>>20 == heap
}

// give changes the executor as a stamp says.
func (p *Pod) give(stamp annotations.RemedyStamp) {
	if stamp.ToCores > 0 {
		p.setLast(spark.ExecutorCores, strconv.Itoa(stamp.ToCores))
	}
	m := stamp.Memory
	if m == nil {
		return
	}
	if m.ToHeapMiB != m.FromHeapMiB {
		p.setLast(spark.ExecutorMemory, fmt.Sprintf("%dm", m.ToHeapMiB))
	}
	p.setMemoryLimit(*resource.NewQuantity(m.ToLimitMiB<<20, resource.BinarySI))
}

// unfitForRemedy says why the executor cannot be changed, or "".
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
	case p.hasDevices():
		return "the container has a device such as a GPU"
	}
	return ""
}

// hasDevices reports whether the container has a resource of a device plugin, such as
// nvidia.com/gpu. Those of Kubernetes have no domain.
func (p *Pod) hasDevices() bool {
	for name := range p.Container().Resources.Limits {
		if strings.Contains(string(name), "/") {
			return true
		}
	}
	return false
}

// changesOf says in words what a stamp changes: "1 core instead of 4".
func changesOf(stamp annotations.RemedyStamp) string {
	var parts []string
	if stamp.ToCores == 1 {
		parts = append(parts, fmt.Sprintf("1 core instead of %d", stamp.FromCores))
	} else if stamp.ToCores > 0 {
		parts = append(parts, fmt.Sprintf("%d cores instead of %d", stamp.ToCores, stamp.FromCores))
	}
	if m := stamp.Memory; m != nil {
		parts = append(parts, fmt.Sprintf("a limit of %d MiB instead of %d", m.ToLimitMiB, m.FromLimitMiB))
		if m.ToHeapMiB != m.FromHeapMiB {
			parts = append(parts, fmt.Sprintf("a heap of %d MiB instead of %d", m.ToHeapMiB, m.FromHeapMiB))
		}
	}
	return strings.Join(parts, " and ") + ""
}

// setLast sets a variable of Spark's container. If it is there several times, the kubelet
// takes the last.
func (p *Pod) setLast(name, value string) {
	all := p.Container().Env
	for i := range slices.Backward(all) {
		if all[i].Name == name {
			p.setEnv(i, value)
			return
		}
	}
}
