package spark_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/spark"
)

// For every heap that a user can set, the estimate from the resulting limit is a heap
// with the same limit, and the same heap except for rounding.
func TestDriverHeapInvertsSparksFormula(t *testing.T) {
	factors := map[spark.Language]struct {
		class  string
		factor float64
	}{
		spark.JVM: {"com.acme.Main", 0.1}, spark.Python: {"org.apache.spark.deploy.PythonRunner", 0.4}, spark.R: {"org.apache.spark.deploy.RRunner", 0.4},
	}
	rapid.Check(t, func(t *rapid.T) {
		language := rapid.SampledFrom([]spark.Language{spark.JVM, spark.Python, spark.R}).Draw(t, "language")
		heap := rapid.Int64Range(450, 1<<20).Draw(t, "heap in MiB")
		limitOf := func(heap int64) int64 { return heap + max(int64(factors[language].factor*float64(heap)), 384) }
		p, _ := spark.PodOf(minimal(spark.Driver, func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.Args = []string{"driver", "--class", factors[language].class, "local:///app"}
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(fmt.Sprintf("%dMi", limitOf(heap)))}
		}))
		m := p.Memory()
		got := m.Heap >> 20
		if !m.Estimated && heap > 450 || m.Estimated && (got < heap-1 || got > heap+1 || limitOf(got) != limitOf(heap)) {
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
		{"8g", "6Gi", 8192, 6144, 0},
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

const gib = 1 << 30

// A driver's heap is read from its settings, or else estimated from its memory limit.
func TestDriverMemory(t *testing.T) {
	memory := func(size string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(size)}
	}
	both := func(size string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: memory(size), Limits: memory(size)}
	}
	args := func(args ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Args, p.Spec.Containers[0].Resources = args, both("1Gi")
		}
	}
	type size struct {
		heap, limit int64 // MiB
		estimated   bool
	}
	exact, notKnown := size{640, 1024, false}, size{0, 1024, false}
	byDefault := size{640, 1024, true}
	tests := map[string]struct {
		tweak func(*corev1.Pod)
		want  size
	}{
		"others raised the limit": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: memory("2432Mi"), Limits: memory("10Gi")}
		}, size{2048, 10240, true}},
		"others took the limit away": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: memory("2432Mi")}
		}, size{2048, 0, true}},
		"a heap that Spark refuses": {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = both("833Mi") }, size{0, 833, false}},
		"the least heap":            {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = both("834Mi") }, size{450, 834, true}},
		"no whole MiB":              {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = both("3456M") }, size{2911, 3295, true}},
		"nothing":                   {func(*corev1.Pod) {}, size{}},
		"zero":                      {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = both("0") }, size{}},
		"a resize that is pending": {func(p *corev1.Pod) {
			in := both("1Gi")
			p.Spec.Containers[0].Resources = both("4Gi")
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "spark-kubernetes-driver", Resources: &in}}
		}, byDefault},
		"a status without resources": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = both("1Gi")
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "spark-kubernetes-driver", Resources: &corev1.ResourceRequirements{}}}
		}, byDefault},
		"the pod's limit": {func(p *corev1.Pod) {
			all := both("1Gi")
			p.Spec.Resources = &all
		}, byDefault},
		"the container's limit comes before the pod's": {func(p *corev1.Pod) {
			all := both("4Gi")
			p.Spec.Resources, p.Spec.Containers[0].Resources = &all, both("1Gi")
		}, byDefault},
		"the pod's limit in force": {func(p *corev1.Pod) {
			all, in := both("4Gi"), both("1Gi")
			p.Spec.Resources, p.Status.Resources = &all, &in
		}, byDefault},
		"--conf":                         {args("driver", "--verbose", "--conf", "spark.driver.memory=640m", "x.jar"), exact},
		"--conf=":                        {args("driver", "--conf=spark.driver.memory=640m", "x.jar"), exact},
		"-c":                             {args("driver", "-c", "spark.driver.memory=640m", "x.jar"), exact},
		"--driver-memory":                {args("driver", "--driver-memory", "640m", "x.jar"), exact},
		"--driver-memory=":               {args("driver", "--driver-memory=640m", "x.jar"), exact},
		"a plain number is MiB":          {args("driver", "--driver-memory", "640"), exact},
		"the last counts":                {args("driver", "--driver-memory", "8g", "--conf", "spark.driver.memory=640m", "x.jar"), exact},
		"another key":                    {args("driver", "--conf", "spark.driver.memoryOverhead=1g", "x.jar"), byDefault},
		"an argument of the program":     {args("driver", "x.jar", "--driver-memory", "8g"), byDefault},
		"a value that looks like one":    {args("driver", "--name", "--driver-memory", "x.jar", "8g"), byDefault},
		"cannot be read":                 {args("driver", "--driver-memory", "lots", "x.jar"), notKnown},
		"nothing follows":                {args("driver", "--driver-memory"), byDefault},
		"started by others, and no size": {args("driver", "--master", "armada://x", "--class", "X", "x.jar"), size{0, 1024, false}},
		"a master in Spark's file":       {args("driver", "--master", "x", "--properties-file", "f", "x.jar"), byDefault},
		"not the entrypoint's arguments": {args("--conf", "spark.driver.memory=640m", "x.jar"), exact},
	}
	for name, test := range tests {
		p, err := spark.PodOf(minimal(spark.Driver, test.tweak))
		if err != nil {
			t.Fatal(err)
		}
		m := p.Memory()
		if got := (size{m.Heap >> 20, m.Limit >> 20, m.Estimated}); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
		known := *p.Container()
		known.Args = p.KnownArgs()
		again, _ := spark.PodOf(minimal(spark.Driver, func(q *corev1.Pod) { *q = *p.DeepCopy(); q.Spec.Containers[0] = known }))
		if again.Memory() != m || again.MainClass() != p.MainClass() {
			t.Errorf("%s: with the known arguments %v: %+v", name, known.Args, again.Memory())
		}
	}
}

func TestHeapFillsLimit(t *testing.T) {
	for m, want := range map[spark.Memory]bool{
		{Limit: gib, Heap: gib}:                      true,
		{Limit: gib, Heap: 2 * gib}:                  true,
		{Limit: 2 * gib, Heap: gib}:                  false,
		{Heap: gib}:                                  false,
		{Limit: gib}:                                 false,
		{Limit: gib, Heap: 2 * gib, Estimated: true}: false,
	} {
		if m.HeapFillsLimit() != want || m.Overhead() < 0 {
			t.Errorf("%+v: %v, overhead %d", m, m.HeapFillsLimit(), m.Overhead())
		}
	}
}

func TestLocalDirsInMemory(t *testing.T) {
	volume := func(name string, medium corev1.StorageMedium) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}}}
	}
	tests := map[string]struct {
		name, at, dirs string
		medium         corev1.StorageMedium
		want           int
	}{
		"tmpfs":                        {"spark-local-dir-1", "/var/data/a", "/var/data/a", corev1.StorageMediumMemory, 1},
		"on disk":                      {"spark-local-dir-1", "/var/data/a", "/var/data/a", "", 0},
		"a volume of the user's":       {"scratch", "/scratch/", "/var/data/a, /scratch", corev1.StorageMediumMemory, 1},
		"a directory of it":            {"scratch", "/scratch", "/scratch/spark", corev1.StorageMediumMemory, 1},
		"memory for something else":    {"shm", "/dev/shm", "/var/data/a", corev1.StorageMediumMemory, 0},
		"a name that only begins so":   {"scratch", "/scratch", "/scratch2", corev1.StorageMediumMemory, 0},
		"no variable, Spark's volume":  {"spark-local-dir-2", "/var/data/b", "", corev1.StorageMediumMemory, 1},
		"no variable, the user's":      {"scratch", "/scratch", "", corev1.StorageMediumMemory, 0},
		"a volume of the whole system": {"root", "/", "/var/data/a", corev1.StorageMediumMemory, 1},
	}
	for name, test := range tests {
		p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{volume("other", corev1.StorageMediumMemory), volume(test.name, test.medium)}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: test.name, MountPath: test.at}}
			if test.dirs != "" {
				p.Spec.Containers[0].Env = []corev1.EnvVar{env("SPARK_LOCAL_DIRS", test.dirs)}
			}
		}))
		if got := p.LocalDirsInMemory(); len(got) != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMemoryVolumesFit(t *testing.T) {
	const mib = 1 << 20
	size := func(s string) *resource.Quantity { q := resource.MustParse(s); return &q }
	tests := map[string]struct {
		sizes []*resource.Quantity
		want  bool
	}{
		"none":              {nil, true},
		"fits":              {[]*resource.Quantity{size("384Mi")}, true},
		"together too much": {[]*resource.Quantity{size("384Mi"), size("1Mi")}, false},
		"without a limit":   {[]*resource.Quantity{nil}, false},
		"zero is none":      {[]*resource.Quantity{size("0")}, false},
		"enormous":          {[]*resource.Quantity{size("8Ei"), size("8Ei"), size("8Ei")}, false},
	}
	for name, test := range tests {
		p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) {
			for i, limit := range test.sizes {
				name := fmt.Sprintf("spark-local-dir-%d", i+1)
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: limit}}})
				mounts := &p.Spec.Containers[0].VolumeMounts // a volume may be mounted twice
				*mounts = append(*mounts, corev1.VolumeMount{Name: name, MountPath: "/" + name}, corev1.VolumeMount{Name: name, MountPath: "/again/" + name})
			}
		}))
		if got := p.MemoryVolumesFit(384 * mib); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
