package spark_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/spark"
)

// For every heap that a user can set, the estimate from the limit that Spark
// makes of it is a heap that gives the same limit, and the very one but for
// rounding.
func TestDriverHeapInvertsSparksFormula(t *testing.T) {
	factors := map[spark.Language]struct {
		class  string
		factor float64
	}{
		spark.JVM: {"com.acme.Main", 0.1}, spark.Python: {"org.apache.spark.deploy.PythonRunner", 0.4}, spark.R: {"org.apache.spark.deploy.RRunner", 0.4},
	}
	rapid.Check(t, func(t *rapid.T) {
		language := rapid.SampledFrom([]spark.Language{spark.JVM, spark.Python, spark.R}).Draw(t, "language")
		heap := rapid.Int64Range(1, 1<<20).Draw(t, "heap in MiB")
		limitOf := func(heap int64) int64 { return heap + max(int64(factors[language].factor*float64(heap)), 384) }
		p, _ := spark.PodOf(minimal(spark.Driver, func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.Args = []string{"driver", "--class", factors[language].class, "local:///app"}
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(fmt.Sprintf("%dMi", limitOf(heap)))}
		}))
		m := p.Memory()
		got := m.Heap >> 20
		if !m.Estimated || got < heap-1 || got > heap+1 || limitOf(got) != limitOf(heap) {
			t.Fatalf("%s: limit %d: heap %d, want %d", language, limitOf(heap), got, heap)
		}
	})
}

func TestExecutorMemory(t *testing.T) {
	tests := []struct {
		env, limit           string
		heap, total, outside int64 // MiB
	}{
		{"4096m", "5734Mi", 4096, 5734, 1638},
		{"4g", "6Gi", 4096, 6144, 2048},
		{"1048576k", "", 1024, 0, 0},
		{"", "6Gi", 0, 6144, 0},
		{"lots", "6Gi", 0, 6144, 0},
		{"-1m", "6Gi", 0, 6144, 0},
		{"9999999999t", "6Gi", 0, 6144, 0},
		{"8g", "6Gi", 0, 6144, 0}, // contradicts itself
	}
	for _, test := range tests {
		p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.Env = []corev1.EnvVar{env("SPARK_EXECUTOR_MEMORY", test.env)}
			if test.limit != "" {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(test.limit)}
			}
		}))
		m := p.Memory()
		if m.Heap>>20 != test.heap || m.Limit>>20 != test.total || m.Overhead()>>20 != test.outside || m.Estimated {
			t.Errorf("%q of %q: %+v", test.env, test.limit, m)
		}
	}
}
