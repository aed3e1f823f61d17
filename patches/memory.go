package patches

import (
	"fmt"
	"strings"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// memoryAnnotations stamps how the memory of Spark's container is divided: what the
// kernel allows, what the JVM's heap may take of it, and what that leaves for
// everything else. To understand a death by memory, a reader needs all three.
//
// Only the limit is certain on a driver: spark-submit makes the pod before the
// ConfigMap that has the heap. So the heap is computed with Spark's own factors, and
// the source is "estimated". What is not known is not stamped.
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
		source := annotations.FromPod
		if m.Estimated {
			source = annotations.Estimated
		}
		p.stamp(annotations.MemorySource, source)
	}
	if m.Limit == 0 {
		p.did("memory", "how large the heap is; the container has no memory limit")
	} else {
		p.did("memory", "how the limit is divided between heap and the rest")
	}
	p.warnOfMemory(m)
}

// warnOfMemory warns of what makes the kernel end the container although the
// application is healthy.
func (p *Pod) warnOfMemory(m spark.Memory) {
	setting := fmt.Sprintf("spark.%s.memory", p.Role)
	if m.HeapFillsLimit() {
		p.warn(policy.Warning{
			Kind: policy.MemoryRisk, Field: fmt.Sprintf("spec.containers[%s].resources.limits.memory", p.Container().Name),
			Text: fmt.Sprintf("the heap may grow to %d MiB and the limit is %d MiB, so nothing is left for memory outside the heap. The kernel may end the %s before its heap is full. Raise the limit to %d MiB or more (%sOverhead), or lower %s",
				m.Heap>>20, m.Limit>>20, p.Role, m.Heap>>20+leastOverhead, setting, setting),
		})
	}
	dirs := p.LocalDirsInMemory()
	if len(dirs) == 0 || m.Limit == 0 || p.MemoryVolumesFit(m.Overhead()) {
		return
	}
	p.warn(policy.Warning{
		Kind: policy.MemoryRisk, Field: fmt.Sprintf("spec.containers[%s].volumeMounts", p.Container().Name),
		Text: fmt.Sprintf("Spark writes shuffle and spill files to %s, in memory, and they count as memory of the container. Set spark.kubernetes.local.dirs.tmpfs=false, or raise %sOverhead by what the files need and limit the volume to that (sizeLimit)",
			strings.Join(dirs, ", "), setting),
	})
}

// leastOverhead is what Spark itself leaves at least in addition to the heap, in MiB.
const leastOverhead = 384

// stampBytes stamps a quantity in whole MiB, Spark's own unit, rounded down: others
// can set a limit such as 3456M.
func (p *Pod) stampBytes(key string, bytes int64) {
	if mib := bytes >> 20; mib > 0 {
		p.stamp(key, fmt.Sprintf("%dMi", mib))
	}
}
