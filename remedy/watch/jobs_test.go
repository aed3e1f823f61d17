package watch

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metadatafake "k8s.io/client-go/metadata/fake"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// job returns the metadata of a SparkJob of the namespace "spark".
func job(name, memory string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: sparkjob.Resource.GroupVersion().String(), Kind: sparkjob.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "spark", Name: name, Labels: map[string]string{annotations.NextRun: "driver"}, Annotations: map[string]string{annotations.NextRun: memory},
		},
	}
}

// starting returns a driver of a job that is about to be created.
func starting(t *testing.T, pod, job string) spark.Pod {
	t.Helper()
	p, err := spark.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod, Labels: map[string]string{spark.RoleLabel: "driver"}, Annotations: map[string]string{annotations.Job: job}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: spark.DriverContainer}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const memory = `{"fromLimitMiB":1408,"toLimitMiB":1971,"fromHeapMiB":1024,"toHeapMiB":1536}`

// knowingJobs returns what is known of a cluster with jobs, and its client.
func knowingJobs(t *testing.T, jobs ...*metav1.PartialObjectMetadata) (*Drivers, *metadatafake.FakeMetadataClient) {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := metadatafake.NewSimpleMetadataClient(scheme)
	for _, j := range jobs {
		if err := client.Tracker().Create(sparkjob.Resource, j, j.Namespace); err != nil {
			t.Fatal(err)
		}
	}
	registry, log := prometheus.NewPedanticRegistry(), slog.New(slog.DiscardHandler)
	d := newDrivers(client, log, registry)
	if err := d.watchJobs(client, log, registry); err != nil {
		t.Fatal(err)
	}
	if _, why := d.MemoryOf(starting(t, "a", "nightly"), "spark"); why == "" {
		t.Error("the jobs are known before they are listed")
	}
	go d.Run(t.Context())
	eventually.True(t, "all is listed", func() bool { return d.Unknown() == "" && d.jobs.informer.HasSynced() })
	return d, client
}

// A driver gets what the job of that name in its namespace needs, if that can be read.
func TestMemoryOf(t *testing.T) {
	d, _ := knowingJobs(t, job("nightly", memory), job("odd", "{}"), job("large", `{"a":"`+strings.Repeat("x", 4<<10)+`"}`))
	for name, c := range map[string]struct {
		job, namespace string
		want           bool
	}{
		"its own":           {"nightly", "spark", true},
		"another namespace": {"nightly", "other", false},
		"another job":       {"hourly", "spark", false},
		"no job":            {"", "spark", false},
		"not valid":         {"odd", "spark", false},
		"large":             {"large", "spark", false},
	} {
		if m, why := d.MemoryOf(starting(t, "a", c.job), c.namespace); (m != nil) != c.want || why != "" || m != nil && m.String() != memory {
			t.Errorf("%s: %v %s", name, m, why)
		}
	}
}

// If a driver with more memory did not come, the next ones are as Spark asks, so that an
// application does not fail each night because of a quota.
func TestRefusedDriver(t *testing.T) {
	d, client := knowingJobs(t, job("nightly", memory))
	clock := noon
	d.now = func() time.Time { return clock }
	gets := func() bool {
		m, why := d.MemoryOf(starting(t, "a", "nightly"), "spark")
		if (m == nil) == (why == "") {
			t.Error(m, why)
		}
		return m != nil
	}
	d.Gave(starting(t, "a", "nightly"), "spark")
	if clock = clock.Add(time.Second); !gets() {
		t.Error("withheld before the driver can have come")
	}
	d.Gave(starting(t, "a", "nightly"), "spark") // the operator tries again
	if clock = clock.Add(arrives); gets() {
		t.Error("given again although the driver did not come")
	}
	if clock = clock.Add(withheld); !gets() {
		t.Error("withheld for ever")
	}
	d.Gave(starting(t, "b", "nightly"), "spark")
	if err := client.Tracker().Create(corev1.SchemeGroupVersion.WithResource("pods"), driver("b", "uid-b"), "spark"); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * arrives)
	eventually.True(t, "the driver came", gets)
}
