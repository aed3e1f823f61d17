package patches

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
)

// memoryAnnotations stamps how the memory of Spark's container is divided: what
// the kernel allows, what the JVM's heap may take of it, and what that leaves
// for everything else. Whoever reads of a death by memory needs all three.
//
// Only the limit is certain on a driver: spark-submit makes the pod before the
// ConfigMap that holds the heap, so the heap is worked out by Spark's own
// factors, and the source is "estimated". Nothing is stamped that is not known.
func memoryAnnotations(p *Pod, c policy.Choice) {
	if !c.Rule.MemoryAnnotations {
		return
	}
	m := p.Memory()
	if m.Limit == 0 && m.Heap == 0 {
		p.leave("memory", "the container has no memory limit")
		return
	}
	p.stampBytes(annotations.MemoryLimit, m.Limit)
	p.stampBytes(annotations.MemoryHeap, m.Heap)
	p.stampBytes(annotations.MemoryOverhead, m.Overhead())
	if m.Heap > 0 {
		source := "pod"
		if m.Estimated {
			source = "estimated"
		}
		p.stamp(annotations.MemorySource, source)
	}
	p.did("memory", "how the limit is divided between heap and the rest")
}

// stampBytes writes a quantity in whole MiB, Spark's own unit, rounded down:
// others can set a limit such as 3456M.
func (p *Pod) stampBytes(key string, bytes int64) {
	if mib := bytes >> 20; mib > 0 {
		p.stamp(key, fmt.Sprintf("%dMi", mib))
	}
}
