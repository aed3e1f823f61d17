package recording

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// deaths kills executors of one driver. Each pod is deleted a moment after its death,
// unless stay is set.
type deaths struct {
	driver *corev1.Pod
	causes map[int]oom.Cause // of executors by number
	stay   bool
}

var endings = []struct {
	reason string
	code   int32
	cause  oom.Cause
}{{"OOMKilled", 137, oom.OOMKilled}, {"Error", 52, oom.HeapOOM}, {"OOMKilled", 1, oom.ChildOOMKilled}, {"Error", 143, ""}, {"Error", 137, oom.Killed}}

// happen kills the executors 1 to ownEvents, each while the API server is up.
func (d *deaths) happen(ctx context.Context, up sync.Locker) error {
	for id := 1; id <= ownEvents; id++ {
		if err := d.one(ctx, id, up); err != nil {
			return err
		}
	}
	return nil
}

func (d *deaths) one(ctx context.Context, id int, up sync.Locker) error {
	var e *corev1.Pod
	step := func(next func() (*corev1.Pod, error)) (err error) {
		up.Lock()
		defer up.Unlock()
		e, err = next()
		return err
	}
	ending := endings[rand.IntN(len(endings))]
	if err := step(func() (*corev1.Pod, error) { return kubelet.Executor(ctx, d.driver, id) }); err != nil {
		return err
	}
	if err := step(func() (*corev1.Pod, error) { return kubelet.Die(ctx, e, ending.reason, ending.code) }); err != nil {
		return err
	}
	if ending.cause != "" {
		d.causes[id] = ending.cause
	}
	if rand.IntN(2) == 0 { // Spark may delete it before its phase follows, and at once
		if err := step(func() (*corev1.Pod, error) { return kubelet.Fail(ctx, e) }); err != nil {
			return err
		}
	}
	if d.stay {
		return nil
	}
	return step(func() (*corev1.Pod, error) { return nil, kubelet.Remove(ctx, e) })
}

// check compares the record with what happened.
func (d *deaths) check(t *testing.T) {
	t.Helper()
	var got oom.Record
	eventually.True(t, fmt.Sprintf("%d deaths on %s", len(d.causes), d.driver.Name), func() bool {
		got = record(t, d.driver)
		return got.Count(spark.Executor) >= len(d.causes)
	})
	want := map[oom.Cause]int{}
	for _, cause := range d.causes {
		want[cause]++
	}
	for _, ending := range endings {
		if n := got.Count(spark.Executor, ending.cause); ending.cause != "" && n != want[ending.cause] {
			t.Errorf("%s: %d of %s are recorded, and there were %d", d.driver.Name, n, ending.cause, want[ending.cause])
		}
	}
	if n := got.Count(spark.Executor); n != len(d.causes) {
		t.Errorf("%s: %d deaths are recorded, and there were %d", d.driver.Name, n, len(d.causes))
	}
}

// checkDeaths checks that the records say what happened, and that each death has one
// Event, on its driver, and nothing else has one, once the recorders have reported
// everything.
func checkDeaths(t *testing.T, namespace string, replicas []*cluster.Recorder, all []*deaths) {
	t.Helper()
	for _, d := range all {
		d.check(t)
	}
	for _, r := range replicas {
		if err := settle(t, namespace, r); err != nil {
			t.Fatalf("not everything is reported: %v", err)
		}
	}
	want, got := map[string]int{}, map[string]int{}
	for _, d := range all {
		for id, cause := range d.causes {
			want[fmt.Sprintf("%s: %s-exec-%d Executor%s", d.driver.UID, d.driver.Name, id, cause)] = 1
		}
	}
	for _, e := range must(kubelet.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{}))(t).Items {
		got[fmt.Sprintf("%s: %s %s", e.Regarding.UID, e.Related.Name, e.Reason)]++
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Events (-want +got):\n%s", d)
	}
}

// checkMetrics checks that one of two recorders counts each death, if both ran all the
// time.
func checkMetrics(t *testing.T, namespace string, replicas []*cluster.Recorder, all []*deaths) {
	t.Helper()
	want, got := map[oom.Cause]float64{}, map[oom.Cause]float64{}
	for _, d := range all {
		for _, cause := range d.causes {
			want[cause]++
		}
	}
	for cause := range want {
		for _, r := range replicas {
			got[cause] += metric(t, r, "spark_vitals_deaths_total", fmt.Sprintf(`{cause="%s",namespace="%s",role="executor"}`, cause, namespace))
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("spark_vitals_deaths_total of both recorders (-want +got):\n%s", d)
	}
	for _, r := range replicas {
		if n := metric(t, r, "spark_vitals_deaths_without_driver_total", namespace); n != 0 {
			t.Errorf("%v deaths are counted as without a driver", n)
		}
	}
}

// applications makes drivers whose executors are to die.
func applications(t *testing.T, namespace string, n int) []*deaths {
	t.Helper()
	all := make([]*deaths, n)
	for i := range all {
		all[i] = &deaths{driver: driver(t, namespace, fmt.Sprintf("app-%d", i)), causes: map[int]oom.Cause{}}
	}
	return all
}

// dieWhile kills ownEvents executors of each driver while something else happens.
func dieWhile(t *testing.T, all []*deaths, up sync.Locker, besides ...func(over <-chan struct{}) error) {
	t.Helper()
	over := make(chan struct{})
	var others errgroup.Group
	for _, other := range besides {
		others.Go(func() error { return other(over) })
	}
	happening, ctx := errgroup.WithContext(t.Context())
	happening.SetLimit(8)
	for _, d := range all {
		happening.Go(func() error { return d.happen(ctx, up) })
	}
	err := happening.Wait()
	close(over)
	if err := errors.Join(err, others.Wait()); err != nil {
		t.Fatal(err)
	}
}

// ownEvents is how many deaths of an application have an Event each.
const ownEvents = 10

// always is the Locker for an API server that is always up.
func always() sync.Locker { return new(sync.RWMutex).RLocker() }

// 2,000 executors die and are deleted at once. Meanwhile one of two recorders after the
// other is killed and started again, the API server refuses every fourth call, watches
// break, and users edit the drivers. With -short 100 executors die.
func TestNothingLostNothingTwice(t *testing.T) {
	drivers := 200
	if testing.Short() {
		drivers = 10
	}
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	replicas := []*cluster.Recorder{startWith(t, through), startWith(t, through)}
	all := applications(t, namespace, drivers)
	killed := 0
	var dying sync.RWMutex
	dieWhile(t, all, dying.RLocker(),
		func(over <-chan struct{}) error { return editUntil(over, all) },
		func(over <-chan struct{}) (err error) {
			killed, err = killUntil(t, namespace, over, replicas, &dying)
			return err
		},
	)
	t.Logf("%d recorders were killed, %d calls refused, %d watches broken off", killed, proxy.failed.Load(), proxy.broken.Load())
	proxy.calm.Store(true)
	checkDeaths(t, namespace, replicas, all)
	for _, d := range all {
		if p := live(t, d.driver); p.Annotations["user"] == "" {
			t.Errorf("%s lost what a user wrote", p.Name)
		}
	}
}

// The same with recorders that run all the time: then their counts are right as well.
func TestRefusals(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	replicas := []*cluster.Recorder{startWith(t, through), startWith(t, through)}
	all := applications(t, namespace, 20)
	dieWhile(t, all, always(), func(over <-chan struct{}) error { return editUntil(over, all) })
	t.Logf("%d calls were refused, %d watches broken off", proxy.failed.Load(), proxy.broken.Load())
	proxy.calm.Store(true)
	checkDeaths(t, namespace, replicas, all)
	checkMetrics(t, namespace, replicas, all)
}

// The API server is killed and started again while executors die and stay.
func TestAPIServerRestarts(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	replicas := []*cluster.Recorder{start(t), start(t)}
	all := applications(t, namespace, 10)
	for _, d := range all {
		d.stay = true
	}
	var up sync.RWMutex
	dieWhile(t, all, up.RLocker(), func(<-chan struct{}) error {
		for range 3 {
			time.Sleep(rand.N(time.Second))
			up.Lock()
			err := controlPlane.RestartAPIServer(t.Context())
			up.Unlock()
			if err != nil {
				return err
			}
		}
		return nil
	})
	checkDeaths(t, namespace, replicas, all)
	checkMetrics(t, namespace, replicas, all)
}

// Executors die and are deleted while the API server cannot be reached. Its watch
// history reports them afterwards.
func TestAway(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	proxy.calm.Store(true)
	r := startWith(t, through)
	all := applications(t, namespace, 1)
	proxy.away()
	dieWhile(t, all, always())
	time.Sleep(2 * time.Second) // it has tried in vain
	proxy.back()
	checkDeaths(t, namespace, []*cluster.Recorder{r}, all)
	checkMetrics(t, namespace, []*cluster.Recorder{r}, all)
	if n := metric(t, r, "spark_vitals_ends_unseen_total", ""); n != 0 {
		t.Errorf("%v ends were not seen", n)
	}
}

// The same, but the watch history is gone: pods that still exist are recorded, and
// deleted pods are counted as not seen.
func TestHistoryGone(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	proxy.calm.Store(true)
	r := startWith(t, through)
	all := applications(t, namespace, 1)
	d := all[0].driver
	var executors []*corev1.Pod
	for id := range 5 {
		executors = append(executors, executor(t, d, id+1))
	}
	die(t, executors[0], "OOMKilled", 137)
	counted(t, d, oom.OOMKilled, 1)
	proxy.away()
	die(t, executors[1], "OOMKilled", 137)
	remove(t, die(t, executors[2], "OOMKilled", 137))
	remove(t, executors[3])
	if err := controlPlane.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.back()
	counted(t, d, oom.OOMKilled, 2)
	eventually.True(t, "two ends were not seen", func() bool { return metric(t, r, "spark_vitals_ends_unseen_total", "") == 2 })
	remove(t, die(t, executors[4], "OOMKilled", 137))
	counted(t, d, oom.OOMKilled, 3)
	all[0].causes = map[int]oom.Cause{1: oom.OOMKilled, 2: oom.OOMKilled, 5: oom.OOMKilled}
	checkDeaths(t, namespace, []*cluster.Recorder{r}, all)
	checkMetrics(t, namespace, []*cluster.Recorder{r}, all)
}

// A recorder that gets SIGTERM first writes and reports what it knows, even if it is
// the only one and the API server refuses calls.
func TestStop(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, _ := troubled(t)
	r := startWith(t, through)
	all := applications(t, namespace, 4)
	dieWhile(t, all, always())
	knows := must(marked(t, namespace))(t)
	eventually.True(t, "it knows all of them", func() bool { return knows(r) })
	r.Stop()
	checkDeaths(t, namespace, nil, all)
}

var marks atomic.Int64

// marked makes a pod whose injection every recorder counts as missed, and returns a
// function that reports whether a recorder has seen everything before that pod. Each
// namespace has its own watch, so the namespace must be the test's, and nothing may
// begin or end there meanwhile.
func marked(t *testing.T, namespace string) (knows func(*cluster.Recorder) bool, err error) {
	pods := kubelet.CoreV1().Pods(namespace)
	all, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := kubelet.Driver(t.Context(), namespace, fmt.Sprintf("mark-%d", marks.Add(1))); err != nil {
		return nil, err
	}
	missed := 1
	for _, p := range all.Items {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			missed++
		}
	}
	return func(r *cluster.Recorder) bool {
		text, err := r.Metrics(t.Context())
		return err == nil && strings.Contains(text, fmt.Sprintf("\nspark_vitals_missed_injections{namespace=%q} %d\n", namespace, missed))
	}, nil
}

// killUntil kills one recorder after the other until over is closed. It kills one only
// if the other has caught up: everything older has been written and reported since the
// other started. Deaths pause for that.
func killUntil(t *testing.T, namespace string, over <-chan struct{}, replicas []*cluster.Recorder, dying sync.Locker) (n int, err error) {
	for ; ; n++ {
		select {
		case <-over:
			if n >= len(replicas) { // each was killed
				return n, nil
			}
		case <-time.After(rand.N(5 * time.Second)):
		}
		r := replicas[n%2]
		dying.Lock()
		err := settle(t, namespace, r)
		dying.Unlock()
		if err != nil {
			return n, err
		}
		time.Sleep(rand.N(time.Second)) // now anything can be under way again
		r.Kill()
		if err := r.Start(t.Context()); err != nil {
			return n, err
		}
	}
}

// settle waits until a recorder has seen everything, and has written and reported it. A
// death that waits for the other recorder's turn waits for at most half a second.
// Twenty answers show that this time is over, even if the process was stopped
// meanwhile.
func settle(t *testing.T, namespace string, r *cluster.Recorder) error {
	knows, err := marked(t, namespace)
	if err != nil {
		return err
	}
	knowing, answers := false, 0
	return wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Minute, true, func(ctx context.Context) (bool, error) {
		if !knowing {
			knowing = knows(r)
			return false, nil
		}
		text, err := r.Metrics(ctx)
		if err == nil {
			answers++
		}
		return answers > 20 && strings.Contains(text, "\nspark_vitals_deaths_waiting 0\n"), nil
	})
}

// editUntil changes annotations of the drivers until over is closed, as a user does. It
// tries again after an error.
func editUntil(over <-chan struct{}, all []*deaths) error {
	for i := 0; ; i++ {
		select {
		case <-over:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
		p := all[i%len(all)].driver
		body := fmt.Appendf(nil, `{"metadata":{"annotations":{"user":"%d"}}}`, i)
		_, _ = kubelet.CoreV1().Pods(p.Namespace).Patch(context.Background(), p.Name, types.MergePatchType, body, metav1.PatchOptions{})
	}
}

// Pods that stay (deleteOnTermination=false) are found whenever a recorder comes back:
// after a restart at each death, with more of them than the record keeps in detail, and
// after the API server's watch history is gone.
func TestRelist(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	d := driver(t, namespace, "etl")
	r := start(t)
	for id := 1; id <= 20; id++ {
		die(t, executor(t, d, id), "OOMKilled", 137)
		r.Kill()
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		counted(t, d, oom.OOMKilled, id)
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
	r.Stop()
	start(t)
	die(t, executor(t, d, 23), "OOMKilled", 137)
	counted(t, d, oom.OOMKilled, 23)
	eventually.True(t, "an Event of each of the first deaths, and one of the others", func() bool { return len(events(t, namespace, "ExecutorOOMKilled")) > ownEvents })
}

// A deleted driver has no annotations to write to. A new driver with its name does not
// get the deaths of the old one's executors.
func TestSecondPodOfTheName(t *testing.T) {
	namespace := newNamespace(t, "enabled")
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
	eventually.True(t, "two deaths without a driver", func() bool { return metric(t, r, "spark_vitals_deaths_without_driver_total", namespace) == 2 })
	if n := len(events(t, namespace, "ExecutorOOMKilled")); n != 2 {
		t.Errorf("%d Events report them", n)
	}
}

// The driver is replaced between the recorder's read and its write. The API server
// refuses the write, and the new driver does not get the death.
func TestSecondPodMeanwhile(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	through, proxy := troubled(t)
	proxy.calm.Store(true)
	old := driver(t, namespace, "etl")
	var second *corev1.Pod
	replaced := make(chan error, 1)
	var once sync.Once
	proxy.before = func(r *http.Request) {
		if r.Method == http.MethodPatch {
			once.Do(func() {
				err := kubelet.Remove(context.Background(), old)
				if err == nil {
					second, err = kubelet.Driver(context.Background(), namespace, "etl")
				}
				replaced <- err
			})
		}
	}
	r := startWith(t, through)
	remove(t, die(t, executor(t, old, 1), "OOMKilled", 137))
	if err := <-replaced; err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "a death without a driver", func() bool { return metric(t, r, "spark_vitals_deaths_without_driver_total", namespace) == 1 })
	if n := metric(t, r, "spark_vitals_record_writes_total", ""); n != 1 {
		t.Errorf("%v writes were tried, and one met the second pod", n)
	}
	die(t, executor(t, second, 2), "Error", 52)
	counted(t, second, oom.HeapOOM, 1)
	counted(t, second, oom.OOMKilled, 0)
	if found := events(t, namespace, "ExecutorOOMKilled"); len(found) != 1 || found[0].Regarding.UID != old.UID {
		t.Errorf("Events: %+v", found)
	}
}

// An executor dies whose driver is not a pod made by Spark.
func TestClientMode(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	replicas := []*cluster.Recorder{start(t), start(t)}
	notebook := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notebook", Namespace: namespace}, Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "notebook", Image: "notebook"}}}}
	notebook = must(kubelet.CoreV1().Pods(namespace).Create(t.Context(), notebook, metav1.CreateOptions{}))(t)
	notebook.Labels = map[string]string{spark.ApplicationLabel: "spark-notebook"}
	remove(t, die(t, executor(t, notebook, 1), "OOMKilled", 137))
	eventually.True(t, "an Event on its owner", func() bool {
		found := events(t, namespace, "ExecutorOOMKilled")
		return len(found) == 1 && found[0].Regarding.UID == notebook.UID
	})
	eventually.True(t, "it is reported once", func() bool {
		n := 0.0
		for _, r := range replicas {
			n += metric(t, r, "spark_vitals_deaths_without_driver_total", namespace)
		}
		return n == 1
	})
}

// Users may fill the annotations of a pod. The recorder uses the space that is left,
// and does not change the users' annotations.
func TestFullAnnotations(t *testing.T) {
	namespace := newNamespace(t, "enabled")
	start(t)
	for name, size := range map[string]int{"much": 250 << 10, "almost": 256<<10 - 600, "full": 256<<10 - 4} {
		d := driver(t, namespace, name)
		body := must(json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"user": strings.Repeat("x", size)}}}))(t)
		must(kubelet.CoreV1().Pods(namespace).Patch(t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{}))(t)
		for id := range 20 {
			remove(t, die(t, executor(t, d, id+1), "OOMKilled", 137))
		}
		die(t, d, "OOMKilled", 137)
		eventually.True(t, "the Event of "+name, func() bool {
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
