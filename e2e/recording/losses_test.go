package recording

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// deaths of executors, each gone a moment after it died.
type deaths struct {
	driver *corev1.Pod
	causes map[oom.Cause]int
}

var endings = []struct {
	reason string
	code   int32
	cause  oom.Cause
}{{"OOMKilled", 137, oom.OOMKilled}, {"Error", 52, oom.HeapOOM}, {"OOMKilled", 1, oom.ChildOOMKilled}, {"Error", 143, ""}, {"Error", 137, oom.Killed}}

func (d *deaths) happen(ctx context.Context, n int) error {
	for id := 1; id <= n; id++ {
		e, err := kubelet.Executor(ctx, d.driver, id)
		if err != nil {
			return err
		}
		ending := endings[rand.IntN(len(endings))]
		if e, err = kubelet.Die(ctx, e, ending.reason, ending.code); err != nil {
			return err
		}
		if ending.cause != "" {
			d.causes[ending.cause]++
		}
		if rand.IntN(2) == 0 { // Spark may delete it before its phase follows, and at once
			if e, err = kubelet.Fail(ctx, e); err != nil {
				return err
			}
		}
		if err := kubelet.Remove(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// check that the record says what happened, no more and no less.
func (d *deaths) check(t *testing.T) {
	t.Helper()
	var got oom.Record
	total := 0
	for _, n := range d.causes {
		total += n
	}
	eventually(t, fmt.Sprintf("%d deaths on %s", total, d.driver.Name), func() bool {
		got = record(t, d.driver)
		return got.Count(spark.Executor) >= total
	})
	for cause, n := range d.causes {
		if got.Count(spark.Executor, cause) != n {
			t.Errorf("%s: %d of %s are recorded, and there were %d", d.driver.Name, got.Count(spark.Executor, cause), cause, n)
		}
	}
	if got.Count(spark.Executor) != total {
		t.Errorf("%s: %d deaths are recorded, and there were %d", d.driver.Name, got.Count(spark.Executor), total)
	}
}

// 2,000 executors die and are gone at once, while of two recorders now one and
// now the other is killed and started again, the API server refuses every fourth
// call, and users edit the drivers. With -short 100 die.
func TestNothingLostNothingTwice(t *testing.T) {
	drivers, each := 20, 100
	if testing.Short() {
		drivers, each = 4, 25
	}
	namespace := site(t, "enabled")
	through, proxy := troubled(t)
	replicas := []*cluster.Recorder{startWith(t, through), startWith(t, through)}
	all := make([]*deaths, drivers)
	for i := range all {
		all[i] = &deaths{driver(t, namespace, fmt.Sprintf("app-%d", i)), map[oom.Cause]int{}}
	}
	happening, running := errgroup.WithContext(t.Context())
	happening.SetLimit(8)
	over := make(chan struct{})
	killed := make(chan int, 1)
	go func() { killed <- killUntil(t, over, replicas) }()
	edited := make(chan error, 1)
	go func() { edited <- editUntil(over, all) }()
	for _, d := range all {
		happening.Go(func() error { return d.happen(running, each) })
	}
	if err := happening.Wait(); err != nil {
		t.Fatal(err)
	}
	close(over)
	if err := <-edited; err != nil {
		t.Error(err)
	}
	t.Logf("%d recorders were killed and %d calls refused", <-killed, proxy.failed.Load())
	for _, d := range all {
		d.check(t)
		if p := live(t, d.driver); p.Annotations["user"] == "" {
			t.Errorf("%s lost what a user wrote", p.Name)
		}
	}
}

// killUntil it is over, now one recorder and now the other is killed, at any
// moment at which the other knows all that it knows: since that one came back,
// everything older has been written once.
func killUntil(t *testing.T, over <-chan struct{}, replicas []*cluster.Recorder) (n int) {
	for {
		select {
		case <-over:
			return n
		case <-time.After(rand.N(500 * time.Millisecond)):
		}
		r := replicas[n%2]
		if text, err := r.Metrics(t.Context()); err != nil || !strings.Contains(text, "\nspark_vitals_deaths_waiting 0\n") {
			continue
		}
		time.Sleep(rand.N(time.Second)) // now anything can be under way again
		r.Kill()
		n++
		if err := r.Start(t.Context()); err != nil {
			t.Error(err)
			return n
		}
	}
}

// editUntil it is over, a user changes annotations of the drivers.
func editUntil(over <-chan struct{}, all []*deaths) error {
	for i := 0; ; i++ {
		select {
		case <-over:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
		p := all[i%len(all)].driver
		body := fmt.Appendf(nil, `{"metadata":{"annotations":{"user":"%d"}}}`, i)
		if _, err := kubelet.CoreV1().Pods(p.Namespace).Patch(context.Background(), p.Name, types.MergePatchType, body, metav1.PatchOptions{}); err != nil && !apierrors.IsTimeout(err) {
			return err
		}
	}
}

// Pods that stay (deleteOnTermination=false) are found whenever a recorder
// comes back: after a restart of its own, with more deaths than are kept in
// detail, and after the API server's watch history is gone.
func TestRelist(t *testing.T) {
	namespace := site(t, "enabled")
	d := driver(t, namespace, "etl")
	r, err := controlPlane.StartRecorder(t.Context(), os.Stderr, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 20; id++ {
		die(t, executor(t, d, id), "OOMKilled", 137)
		if id%4 == 0 {
			r.Kill()
			if r, err = controlPlane.StartRecorder(t.Context(), os.Stderr, kubeconfig); err != nil {
				t.Fatal(err)
			}
			counted(t, d, oom.OOMKilled, id)
		}
	}
	if got := record(t, d); len(got.Details) != oom.MaxDetails || got.Executors != 20 {
		t.Errorf("%d details and %d executors", len(got.Details), got.Executors)
	}
	if err := controlPlane.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	die(t, executor(t, d, 21), "OOMKilled", 137)
	counted(t, d, oom.OOMKilled, 21)
	remove(t, die(t, executor(t, d, 22), "OOMKilled", 137))
	counted(t, d, oom.OOMKilled, 22)
	before := live(t, d).ResourceVersion
	r.Stop()
	start(t)
	die(t, executor(t, d, 23), "OOMKilled", 137)
	counted(t, d, oom.OOMKilled, 23)
	if len(events(t, namespace, "ExecutorOOMKilled")) == 0 || before == live(t, d).ResourceVersion {
		t.Error("nothing was written")
	}
}

// A driver that is gone has nothing to write on; a new one of its name is not
// blamed for the old one's executors.
func TestSecondPodOfTheName(t *testing.T) {
	namespace := site(t, "enabled")
	r := start(t)
	old := driver(t, namespace, "etl")
	executors := []*corev1.Pod{executor(t, old, 1), executor(t, old, 2)}
	remove(t, old)
	second := driver(t, namespace, "etl")
	for _, e := range executors {
		die(t, e, "OOMKilled", 137)
	}
	die(t, executor(t, second, 3), "Error", 52)
	counted(t, second, oom.HeapOOM, 1)
	counted(t, second, oom.OOMKilled, 0)
	eventually(t, "two deaths without a driver", func() bool { return metric(t, r, "spark_vitals_deaths_without_driver_total", namespace) == 2 })
	if n := len(events(t, namespace, "ExecutorOOMKilled")); n != 2 {
		t.Errorf("%d Events tell of them", n)
	}
}

// An executor of a driver that is no pod of Spark's.
func TestClientMode(t *testing.T) {
	namespace := site(t, "enabled")
	replicas := []*cluster.Recorder{start(t), start(t)}
	notebook := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notebook", Namespace: namespace}, Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "notebook", Image: "notebook"}}}}
	notebook = must(kubelet.CoreV1().Pods(namespace).Create(t.Context(), notebook, metav1.CreateOptions{}))(t)
	notebook.Labels = map[string]string{spark.ApplicationLabel: "spark-notebook"}
	remove(t, die(t, executor(t, notebook, 1), "OOMKilled", 137))
	eventually(t, "an Event on its owner", func() bool {
		found := events(t, namespace, "ExecutorOOMKilled")
		return len(found) == 1 && found[0].Regarding.UID == notebook.UID
	})
	eventually(t, "told once", func() bool {
		n := 0.0
		for _, r := range replicas {
			n += metric(t, r, "spark_vitals_deaths_without_driver_total", namespace)
		}
		return n == 1
	})
}

// Users may fill the annotations of a pod. Whatever room they leave is used,
// and what they wrote stands.
func TestFullAnnotations(t *testing.T) {
	namespace := site(t, "enabled")
	start(t)
	for name, size := range map[string]int{"much": 250 << 10, "almost": 256<<10 - 600, "full": 256<<10 - 4} {
		d := driver(t, namespace, name)
		body := must(json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"user": strings.Repeat("x", size)}}}))(t)
		must(kubelet.CoreV1().Pods(namespace).Patch(t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{}))(t)
		for id := range 20 {
			remove(t, die(t, executor(t, d, id+1), "OOMKilled", 137))
		}
		die(t, d, "OOMKilled", 137)
		eventually(t, "the Event of "+name, func() bool {
			for _, e := range events(t, namespace, "DriverOOMKilled") {
				if e.Regarding.Name == name {
					return true
				}
			}
			return false
		})
		p := live(t, d)
		if len(p.Annotations["user"]) != size {
			t.Errorf("%s: what the user wrote is gone", name)
		}
		if state := p.Annotations[annotations.State]; (state == "KILLED") != (name != "full") {
			t.Errorf("%s: the state is %q", name, state)
		}
		if name == "much" {
			counted(t, d, oom.OOMKilled, 20)
		}
	}
}
