package spark

import (
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Memory is the memory of Spark's container in bytes; 0 if not known. The kernel
// enforces Limit. The JVM may take Heap of it. The rest is for everything else:
// Python, native and off-heap memory, thread stacks, tmpfs.
type Memory struct {
	Limit, Heap int64
	// Request is what the container asks for. Spark makes it equal to Limit. If it is
	// lower, others have set the limit, or, for an executor since 4.2, its overhead is
	// bursty (spark.executor.memoryOverheadBursty.enabled).
	Request int64
	// Estimated is true if Heap was computed with Spark's default factors. It is then
	// wrong if the user set an overhead.
	Estimated bool
}

// Overhead returns what the limit leaves in addition to the heap, or 0 if that is not
// known or nothing is left.
func (m Memory) Overhead() int64 {
	if m.Limit == 0 || m.Heap == 0 {
		return 0
	}
	return max(m.Limit-m.Heap, 0)
}

// HeapFillsLimit reports whether the heap alone may take the whole limit, so that
// the kernel ends the container before the JVM runs out of heap.
func (m Memory) HeapFillsLimit() bool {
	return m.Limit > 0 && !m.Estimated && m.Heap >= m.Limit
}

// Memory returns the memory that the pod shows. An executor's heap is in its
// environment (SPARK_EXECUTOR_MEMORY). A driver's heap is in its arguments if a person
// or a platform made the pod. Otherwise it is not in the pod at all, because
// spark-submit creates the pod before the ConfigMap that has it. It is then estimated
// from what Spark asked for: the request, if others have changed the limit. For a
// driver that others start by its arguments, it is Spark's default.
func (p Pod) Memory() Memory {
	m := Memory{Limit: p.memory(limits), Request: p.memory(requests)}
	if p.Role == Executor {
		value, _ := p.Env(ExecutorMemory)
		m.Heap = bytesOf(value)
		return m
	}
	args := readSubmitArgs(p.Container().Args)
	switch {
	case args.memory != "":
		m.Heap = sparkBytes(args.memory)
		return m
	case args.byHand(): // SPARK_DRIVER_MEMORY, or a file in the image, may say it
		value, _ := p.Env(driverMemoryEnv)
		m.Heap = sparkBytes(value)
		return m
	}
	asked := m.Limit
	if m.Request > 0 && (asked == 0 || m.Request < asked) {
		asked = m.Request
	}
	m.Heap = driverHeap(asked, p.Language())
	m.Estimated = m.Heap > 0
	return m
}

func limits(r *corev1.ResourceRequirements) corev1.ResourceList   { return r.Limits }
func requests(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }

// memory returns the quantity in force for Spark's container: the one that the kubelet
// reports, which a pending resize has not changed yet, else the one in the container's
// spec, else the one of the whole pod.
func (p Pod) memory(of func(*corev1.ResourceRequirements) corev1.ResourceList) int64 {
	inForce := []*corev1.ResourceRequirements{&p.Container().Resources, p.Status.Resources, p.Spec.Resources}
	if s := p.ContainerStatus(); s != nil {
		inForce = append([]*corev1.ResourceRequirements{s.Resources}, inForce...)
	}
	for _, r := range inForce {
		if r == nil {
			continue
		}
		if quantity := of(r)[corev1.ResourceMemory]; quantity.Sign() > 0 {
			return quantity.Value()
		}
	}
	return 0
}

const (
	mib         = 1 << 20
	minOverhead = 384 // MiB: MEMORY_OVERHEAD_MIN_MIB, since Spark 4.0 spark.driver.minMemoryOverhead
	minHeap     = 450 // MiB: with less a SparkContext refuses to start (UnifiedMemoryManager.scala)
)

// driverHeap inverts BasicDriverFeatureStep.scala:
//
//	limit = heap + max(factor*heap, 384 MiB), factor 0.1, for Python and R 0.4
//
// in whole MiB. It returns 0 if no heap that Spark starts with gives that limit.
func driverHeap(limit int64, language Language) int64 {
	total, tenths := limit/mib, overheadTenths(language)
	heap := total - minOverhead
	if heap*tenths/10 > minOverhead {
		heap = (total*10 + 9 + tenths) / (10 + tenths)
	}
	// Spark rounds the overhead down, so two neighbours can fit; take the one that does.
	for h := heap; h > heap-3; h-- {
		if DriverLimitMiB(h, language) == total {
			heap = h
			break
		}
	}
	if heap < minHeap {
		return 0
	}
	return heap * mib
}

// DriverLimitMiB returns the limit in MiB that Spark gives a driver with a heap if no
// overhead is set (BasicDriverFeatureStep.scala).
func DriverLimitMiB(heap int64, language Language) int64 {
	return heap + max(heap*overheadTenths(language)/10, minOverhead)
}

// overheadTenths returns Spark's default overhead factor of a driver, in tenths.
func overheadTenths(language Language) int64 {
	if language == Python || language == R {
		return 4
	}
	return 1
}

// bytesOf reads a size as the JVM's -Xmx does: "512m", "4g", "1048576".
func bytesOf(s string) int64 {
	if s == "" {
		return 0
	}
	shift := 0
	if unit := strings.IndexByte("kmgt", s[len(s)-1]|0x20); unit >= 0 {
		s, shift = s[:len(s)-1], 10*(unit+1)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0
	}
	return n << shift
}
