package watch

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// driver returns the metadata of a driver with a plan.
func driver(name, uid string, change ...func(map[string]string)) *metav1.PartialObjectMetadata {
	d := &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "spark", Name: name, UID: types.UID(uid), Labels: map[string]string{spark.RoleLabel: "driver"},
			Annotations: map[string]string{"large": strings.Repeat("x", 1<<10), annotations.Remedy: annotations.RemedyText([]annotations.RemedyPlan{
				{Application: "spark-1", Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2, Until: noon.Add(time.Hour)},
				{Application: "spark-1", Profile: "1", Mode: annotations.Enabled, FromCores: 8, ToCores: 4, Until: noon.Add(time.Hour)},
			})},
		},
	}
	for _, f := range change {
		f(d.Annotations)
	}
	return d
}

// executor returns an executor of a driver.
func executor(t *testing.T, of *metav1.PartialObjectMetadata, change ...func(*corev1.Pod)) spark.Pod {
	t.Helper()
	controller := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Labels:          map[string]string{spark.RoleLabel: "executor", spark.ApplicationLabel: "spark-1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: of.Name, UID: of.UID, Controller: &controller}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: spark.ExecutorContainer}}},
	}
	for _, f := range change {
		f(p)
	}
	pod, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// watching returns the plans of drivers, which are known. prepare changes the client
// first.
func watching(t *testing.T, prepare func(*metadatafake.FakeMetadataClient), drivers ...runtime.Object) *Drivers {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := metadatafake.NewSimpleMetadataClient(scheme, drivers...)
	if prepare != nil {
		prepare(client)
	}
	d := newDrivers(client, slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	d.now = func() time.Time { return noon }
	if d.Unknown() == "" || d.count() != -1 {
		t.Error("the plans are known before the drivers are listed")
	}
	go d.Run(t.Context())
	eventually.True(t, "the drivers are listed", func() bool { return d.Unknown() == "" })
	return d
}

// An executor has the plan of the driver that owns it, of its application and its
// resource profile, in its namespace, until the plan ends.
func TestOf(t *testing.T) {
	a, b := driver("a", "uid-a"), driver("b", "uid-b", func(m map[string]string) { delete(m, annotations.Remedy) })
	d := watching(t, nil, a, b)
	if d.count() != 2 {
		t.Error(d.count(), "drivers")
	}
	for name, c := range map[string]struct {
		executor  spark.Pod
		namespace string
		want      int // cores; 0 without a plan
	}{
		"its driver's": {executor(t, a), "spark", 2},
		"its profile's": {executor(t, a, func(p *corev1.Pod) {
			p.Labels["spark-exec-resourceprofile-id"] = "1"
		}), "spark", 4},
		"another namespace":   {executor(t, a), "other", 0},
		"another application": {executor(t, a, func(p *corev1.Pod) { p.Labels[spark.ApplicationLabel] = "spark-2" }), "spark", 0},
		"another profile": {executor(t, a, func(p *corev1.Pod) {
			p.Labels["spark-exec-resourceprofile-id"] = "2"
		}), "spark", 0},
		"a driver without":   {executor(t, b), "spark", 0},
		"an unknown driver":  {executor(t, driver("c", "uid-c")), "spark", 0},
		"another pod's name": {executor(t, driver("c", "uid-a")), "spark", 0},
		"no owner":           {executor(t, a, func(p *corev1.Pod) { p.OwnerReferences = nil }), "spark", 0},
	} {
		got := 0
		if plan := d.Of(c.executor, c.namespace); plan != nil {
			got = plan.ToCores
		}
		if got != c.want {
			t.Errorf("%s: %d cores, want %d", name, got, c.want)
		}
	}
	d.now = func() time.Time { return noon.Add(time.Hour) }
	if plan := d.Of(executor(t, a), "spark"); plan != nil {
		t.Error("a plan that has ended:", plan)
	}
}

// The driver's own annotation turns a plan off, or into one in audit, and cannot turn
// one on.
func TestMode(t *testing.T) {
	for mode, want := range map[string]string{"": "enabled", "audit": "audit", "disabled": "", "enabled": "enabled", "odd": "enabled"} {
		a := driver("a", "uid-a", func(m map[string]string) { m[annotations.RemedyMode] = mode })
		d := watching(t, nil, a)
		got := ""
		if plan := d.Of(executor(t, a), "spark"); plan != nil {
			got = string(plan.Mode)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", mode, got, want)
		}
	}
}

// Of a driver little is kept, and nothing that is not valid.
func TestStrip(t *testing.T) {
	for name, value := range map[string]string{
		"not JSON":   "yes",
		"more cores": `[{"application":"spark-1","profile":"0","mode":"enabled","fromCores":1,"toCores":64}]`,
		"large":      `[{"application":"` + strings.Repeat("x", 2<<10) + `","profile":"0","mode":"enabled","fromCores":4,"toCores":1}]`,
		"no profile": `[{"application":"spark-1","mode":"enabled","fromCores":4,"toCores":1}]`,
	} {
		kept, err := strip(driver("a", "uid-a", func(m map[string]string) { m[annotations.Remedy] = value }))
		if meta := kept.(*metav1.PartialObjectMetadata); err != nil || len(meta.Annotations) > 0 || len(meta.Labels) > 0 {
			t.Errorf("%s: %v %v", name, meta, err)
		}
	}
	kept, _ := strip(driver("a", "uid-a"))
	if text := fmt.Sprint(kept); len(text) > 1<<10 {
		t.Error(len(text), "bytes")
	}
}

// While the last call failed no plan is known, and later it is again.
func TestBlind(t *testing.T) {
	var fails atomic.Bool
	watches := make(chan *watch.FakeWatcher, 10)
	d := watching(t, func(client *metadatafake.FakeMetadataClient) {
		client.PrependWatchReactor("pods", func(clienttesting.Action) (bool, watch.Interface, error) {
			if fails.Load() {
				return true, nil, syscall.ECONNREFUSED // a reflector does not report it
			}
			w := watch.NewFake()
			watches <- w
			return true, w, nil
		})
	}, driver("a", "uid-a"))
	fails.Store(true)
	(<-watches).Stop()
	eventually.True(t, "the plans are unknown", func() bool { return d.Unknown() != "" })
	fails.Store(false)
	eventually.True(t, "the plans are known again", func() bool { return d.Unknown() == "" })
}
