package patches

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// nextRun gives a driver more memory, because the driver of an earlier run of the same
// SparkJob died of memory: the container's limit, and spark.driver.memory as its first
// argument, which counts more than the properties file. The request stays.
//
// It stamps what the rule allows, also if there is nothing to give. The recorder works out
// what the next run gets only for jobs with that stamp.
//
// It leaves the driver alone if
//   - what it is to get cannot be known, or another driver with it was not created;
//   - its heap is already in its arguments, spark-submit did not make it, or it has a command
//     of its own;
//   - its limit is not the one of the earlier run: the user has changed it.
func nextRun(p *Pod, c policy.Choice) {
	const field = "remedy"
	rule := c.Rule.Remedy
	if rule.Carries() == "" || p.Role != spark.Driver {
		return
	}
	terms := annotations.RemedyTerms{NextRun: rule.Carries(), MaxMemoryMiB: rule.MaxMemoryMiB()}
	if p.audit {
		terms.NextRun = policy.Audit
	}
	p.stamp(annotations.RemedyRule, terms.String())
	stamp, earlier := p.earlierMemory(rule.MaxMemoryMiB())
	if !earlier && p.undoHeap() {
		p.leave(field, annotations.ChangedByAnother)
		return
	}
	if !earlier {
		if c.NoRemedy != "" {
			p.leave(field, c.NoRemedy)
			return
		}
		if c.Memory == nil {
			return
		}
		m := within(c.Memory, rule.MaxMemoryMiB())
		if why := p.unfitForMemory(m, c.Memory.FromLimitMiB); why != "" {
			p.leave(field, why)
			return
		}
		stamp.Memory, p.remedied = m, terms.NextRun
		if terms.NextRun == policy.Audit {
			stamp.Mode = policy.Audit
		}
		if stamp.Mode == "" {
			p.giveDriver(m)
		}
	}
	p.stamp(annotations.Remedied, stamp.String())
	const because = ", because the driver of an earlier run died of memory"
	if stamp.Mode == policy.Audit && !p.audit {
		p.leave(field, "in audit: it would have "+changesOf(stamp)+because)
		return
	}
	p.did(field, "it has "+changesOf(stamp)+because)
}

// within returns memory with a limit of at most so many MiB, or nil if that is no more
// than Spark asked for. What the heap leaves in the container stays.
func within(m *annotations.RemedyMemory, ceiling int64) *annotations.RemedyMemory {
	bounded := *m
	if over := bounded.ToLimitMiB - ceiling; over > 0 {
		bounded.ToLimitMiB = ceiling
		if bounded.ToHeapMiB > bounded.FromHeapMiB {
			bounded.ToHeapMiB = max(bounded.ToHeapMiB-over, bounded.FromHeapMiB)
		}
	}
	if bounded.ToLimitMiB <= bounded.FromLimitMiB || m.ToHeapMiB > m.FromHeapMiB && bounded.ToHeapMiB == m.FromHeapMiB {
		return nil
	}
	return &bounded
}

// asksFor reports whether the container's own limit is so many MiB. If the whole pod has a
// limit, a larger one of the container is not valid.
func (p *Pod) asksFor(limit int64) bool {
	own := p.Container().Resources.Limits[corev1.ResourceMemory]
	return p.Spec.Resources == nil && own.Value()>>20 == limit
}

// maxName is how many bytes the name of a pod may have.
const maxName = 253

// unfitForMemory says why a driver cannot get more memory, or "".
func (p *Pod) unfitForMemory(m *annotations.RemedyMemory, fromLimit int64) string {
	switch {
	case m == nil:
		return "the rule's maxMemory allows no more"
	case !p.asksFor(fromLimit):
		return fmt.Sprintf("its limit is not the %d MiB of the earlier run", fromLimit)
	case p.Name == "":
		return "the pod has no name yet"
	case len(p.Name) > maxName: // names are validated after admission
		return "the pod's name is too long"
	case m.ToHeapMiB > m.FromHeapMiB && m.ToHeapMiB <= p.Pod.Memory().Heap>>20:
		return "its heap is larger than the earlier run's"
	case !p.MayTakeHeap():
		return "its heap is in its arguments, or spark-submit did not make it"
	}
	return ""
}

// giveDriver gives a driver memory.
func (p *Pod) giveDriver(m *annotations.RemedyMemory) {
	if m.ToHeapMiB > m.FromHeapMiB {
		p.insertArgs(1, spark.HeapArgs(m.ToHeapMiB))
	}
	p.setMemoryLimit(*resource.NewQuantity(m.ToLimitMiB<<20, resource.BinarySI))
}

// undoHeap takes back the heap that an earlier round gave a driver if another webhook has
// lowered the limit since. It reports whether it did. A forged stamp can only take the
// pod's own arguments away.
func (p *Pod) undoHeap() bool {
	m := annotations.ReadRemedyStamp(p.Annotations[annotations.Remedied]).Memory
	if !p.wasSet("remedy") || m == nil || m.ToHeapMiB <= m.FromHeapMiB || !p.startsWithHeap(m) {
		return false
	}
	limit := p.Container().Resources.Limits[corev1.ResourceMemory]
	if limit.IsZero() || limit.Value()>>20 >= m.ToLimitMiB {
		return false
	}
	p.removeArgs(1, len(spark.HeapArgs(m.ToHeapMiB)))
	return true
}

// startsWithHeap reports whether the arguments that set the heap are where [Pod.giveDriver]
// puts them.
func (p *Pod) startsWithHeap(m *annotations.RemedyMemory) bool {
	args, want := p.Container().Args, spark.HeapArgs(m.ToHeapMiB)
	return len(args) > len(want) && slices.Equal(args[1:1+len(want)], want)
}

// earlierMemory returns what an earlier round gave a driver and it still has. Anyone can
// write the stamp, so it only decides the wording.
func (p *Pod) earlierMemory(ceiling int64) (stamp annotations.RemedyStamp, ok bool) {
	stamp = annotations.ReadRemedyStamp(p.Annotations[annotations.Remedied])
	m := stamp.Memory
	if !p.wasSet("remedy") || stamp.Mode != "" || stamp.ToCores > 0 || m == nil || m.ToLimitMiB > ceiling || !p.asksFor(m.ToLimitMiB) {
		return annotations.RemedyStamp{}, false
	}
	if m.ToHeapMiB > m.FromHeapMiB && !p.startsWithHeap(m) {
		return annotations.RemedyStamp{}, false
	}
	return stamp, true
}

// insertArgs inserts arguments of Spark's container at an index.
func (p *Pod) insertArgs(at int, args []string) {
	c := p.Container()
	c.Args = slices.Insert(slices.Clone(c.Args), at, args...)
	for i, arg := range args {
		p.add(p.containerPath(fmt.Sprintf("args/%d", at+i)), arg)
	}
}

// removeArgs removes so many arguments of Spark's container from an index on.
func (p *Pod) removeArgs(at, n int) {
	c := p.Container()
	c.Args = slices.Delete(slices.Clone(c.Args), at, at+n)
	for range n {
		p.remove(p.containerPath(fmt.Sprintf("args/%d", at)))
	}
}
