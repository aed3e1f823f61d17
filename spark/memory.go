package spark

import (
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Memory of Spark's container, in bytes, 0 for what is not known. Limit is
// what the kernel enforces; Heap what the JVM may take of it. The rest is for
// everything else: Python, native and off-heap memory, thread stacks, tmpfs.
type Memory struct {
	Limit, Heap int64
	// Estimated says that Heap was worked out from Limit by the factors that
	// Spark uses by default, and is wrong where the user set an overhead.
	Estimated bool
}

// Overhead is what the limit leaves beside the heap; 0 where that is not known.
func (m Memory) Overhead() int64 {
	if m.Limit == 0 || m.Heap == 0 {
		return 0
	}
	return m.Limit - m.Heap
}

// Memory as the pod shows it. An executor's heap is in its environment
// (SPARK_EXECUTOR_MEMORY). A driver's is not in its pod at all: spark-submit
// creates the ConfigMap that holds it after the pod.
func (p Pod) Memory() Memory {
	limit := p.Container().Resources.Limits[corev1.ResourceMemory]
	m := Memory{Limit: limit.Value()}
	if p.Role == Executor {
		value, _ := p.Env(executorMemoryEnv)
		m.Heap = bytesOf(value)
	} else if m.Heap = driverHeap(m.Limit, p.Language()); m.Heap > 0 {
		m.Estimated = true
	}
	if m.Limit > 0 && m.Heap > m.Limit {
		m.Heap, m.Estimated = 0, false // contradicts itself: not known
	}
	return m
}

const (
	mib         = 1 << 20
	minOverhead = 384 // MiB: MEMORY_OVERHEAD_MIN_MIB, since Spark 4.0 spark.driver.minMemoryOverhead
)

// driverHeap inverts BasicDriverFeatureStep.scala:
//
//	limit = heap + max(factor*heap, 384 MiB), factor 0.1, for Python and R 0.4
//
// in whole MiB. It returns 0 where no heap gives that limit.
func driverHeap(limit int64, language Language) int64 {
	total, tenths := limit/mib, int64(1)
	if language == Python || language == R {
		tenths = 4
	}
	heap := total - minOverhead
	if heap*tenths/10 > minOverhead {
		heap = (total*10 + 9 + tenths) / (10 + tenths)
	}
	// Spark rounds the overhead down, so two neighbours can fit; take the one that does.
	for h := heap; h > heap-3 && h > 0; h-- {
		if h+max(h*tenths/10, minOverhead) == total {
			return h * mib
		}
	}
	return max(heap, 0) * mib
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
