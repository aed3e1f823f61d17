// Package stalling tests the stall watch on a real API server, with exactly the
// rights of its manifest. A node's kubelet is a stand-in that serves logs.
package stalling

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

var (
	controlPlane *cluster.ControlPlane
	api          kubernetes.Interface
	logs         = &kubelet{lines: map[string][]string{}, asked: map[string]int{}}
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	err := cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error {
		controlPlane, api = c, c.Client
		for _, namespace := range []string{"spark-vitals", "spark"} {
			if err := c.Namespace(ctx, namespace, nil); err != nil {
				return err
			}
		}
		if err := c.Apply(ctx, "stall/watch/role.yaml"); err != nil {
			return err
		}
		served := httptest.NewTLSServer(logs)
		defer served.Close()
		if err := makeNode(ctx, served.Listener.Addr().(*net.TCPAddr)); err != nil {
			return err
		}
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// makeNode makes the node that [cluster.Kubelet] names in pods.
func makeNode(ctx context.Context, at *net.TCPAddr) error {
	node, err := api.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: at.IP.String()}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(at.Port)
	_, err = api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// kubelet serves the logs of drivers. A pod without lines has no log.
type kubelet struct {
	lock  sync.Mutex
	lines map[string][]string
	asked map[string]int
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.lock.Lock()
	defer k.lock.Unlock()
	parts := strings.Split(r.URL.Path, "/") // /containerLogs/NAMESPACE/POD/CONTAINER
	n, err := strconv.Atoi(r.URL.Query().Get("tailLines"))
	if len(parts) != 5 || parts[1] != "containerLogs" || err != nil || r.URL.Query().Get("timestamps") != "true" {
		http.Error(w, "not asked for so", http.StatusBadRequest)
		return
	}
	k.asked[parts[3]]++
	lines, ok := k.lines[parts[3]]
	if !ok {
		http.Error(w, "the runtime does not answer", http.StatusInternalServerError)
		return
	}
	for _, line := range lines[max(0, len(lines)-n):] {
		fmt.Fprintln(w, line)
	}
}

func (k *kubelet) write(driver string, at time.Time, text string) {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.lines[driver] = append(k.lines[driver], at.UTC().Format(time.RFC3339Nano)+" "+text)
}

func (k *kubelet) times(driver string) int {
	k.lock.Lock()
	defer k.lock.Unlock()
	return k.asked[driver]
}

// start makes a driver that began ten minutes ago and may be silent for one minute.
func start(t *testing.T, name string, annotated map[string]string) *corev1.Pod {
	t.Helper()
	pod, err := cluster.Kubelet{Interface: api}.Driver(t.Context(), "spark", name)
	if err != nil {
		t.Fatal(err)
	}
	pod.Annotations = annotated
	if pod, err = api.CoreV1().Pods("spark").Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(-10 * time.Minute))
	if pod, err = api.CoreV1().Pods("spark").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return pod
}

func mark(t *testing.T, driver string) *annotations.StallMark {
	t.Helper()
	pod, err := api.CoreV1().Pods("spark").Get(t.Context(), driver, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, ok := pod.Annotations[annotations.Stalled]
	if !ok {
		return nil
	}
	m, err := annotations.ReadStallMark(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func events(t *testing.T, pod *corev1.Pod) (reasons []string) {
	t.Helper()
	list, err := api.CoreV1().Events("spark").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		reasons = append(reasons, e.Reason)
	}
	slices.Sort(reasons)
	return reasons
}

func watch(t *testing.T, name string, flags ...string) *cluster.Leader {
	t.Helper()
	w, err := controlPlane.StartStallWatch(t.Context(), name, os.Stderr, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(w.Log)
			t.Logf("%s", log)
		}
	})
	return w
}

func TestStalled(t *testing.T) {
	stamp := map[string]string{annotations.LogStallAfter: "1m"}
	past := time.Now().Add(-2 * time.Minute) // looked at each minute
	logs.write("dead", past, `Exception in thread "dag-scheduler-event-loop" java.lang.OutOfMemoryError: Java heap space`)
	logs.write("dead", past, "INFO ContextCleaner: Cleaned accumulator 7")
	logs.write("not-asked", past, "x")
	dead, lively := start(t, "dead", stamp), start(t, "lively", stamp)
	start(t, "away", stamp)
	start(t, "not-asked", nil)
	if _, err := (cluster.Kubelet{Interface: api}).Executor(t.Context(), dead, 1); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			logs.write("lively", time.Now(), "INFO at work")
			select {
			case <-ended:
				return
			case <-time.After(time.Second):
			}
		}
	})
	defer writing.Wait()
	defer close(ended)

	address, err := cluster.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	first := watch(t, "first", "--metrics-bind-address="+address)
	var m *annotations.StallMark
	eventually.True(t, "the dead driver is marked", func() bool { m = mark(t, "dead"); return m != nil })
	if m.Confidence != annotations.Sure || m.Evidence.Thread != "dag-scheduler-event-loop" || m.Evidence.Executors == nil || *m.Evidence.Executors != 1 ||
		m.Evidence.CPU != nil || m.Evidence.UI != annotations.UIUnknown || !m.Is(past) || !m.Evidence.LastLine.Equal(past) {
		t.Errorf("marked as %s", m)
	}
	eventually.True(t, "it is reported", func() bool { return slices.Equal(events(t, dead), []string{"DriverStalled"}) })
	eventually.True(t, "those that answer nothing are counted as unknown", func() bool {
		return strings.Contains(metrics(address), "spark_vitals_stall_unknown 1\n")
	})

	// Another leader finds the mark, and reports nothing again.
	first.Stop()
	asked := logs.times("dead")
	watch(t, "second", "--metrics-bind-address=0")
	eventually.True(t, "the new leader has looked twice", func() bool { return logs.times("dead") >= asked+2 })
	logs.write("dead", time.Now(), "INFO it was not dead")
	eventually.True(t, "the mark is gone", func() bool {
		now := mark(t, "dead")
		if now != nil && now.String() != m.String() {
			t.Fatalf("marked anew as %s", now)
		}
		return now == nil
	})
	eventually.True(t, "that is reported too", func() bool { return slices.Equal(events(t, dead), []string{"DriverStalled", "DriverTalksAgain"}) })

	for _, name := range []string{"lively", "away", "not-asked"} {
		if m := mark(t, name); m != nil {
			t.Errorf("%s is marked: %s", name, m)
		}
	}
	if logs.times("not-asked") > 0 || logs.times("away") == 0 || len(events(t, lively)) > 0 {
		t.Errorf("asked %v", logs.asked)
	}
}

// metrics returns what an endpoint serves now, or "".
func metrics(address string) string {
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return string(text)
}

// The manifest grants no right to change what a pod runs, or to read Secrets.
func TestRights(t *testing.T) {
	for verb, allowed := range map[string]bool{
		"get pods/log": true, "patch pods/status": true, "list pods": true, "create events": true,
		"patch pods": false, "delete pods": false, "create pods": false, "create pods/exec": false, "get secrets": false, "get configmaps": false,
	} {
		does, what, _ := strings.Cut(verb, " ")
		resource, subresource, _ := strings.Cut(what, "/")
		review, err := api.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:spark-vitals:spark-vitals-stallwatch",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "spark", Verb: does, Resource: resource, Subresource: subresource},
		}}, metav1.CreateOptions{})
		if err != nil || review.Status.Allowed != allowed {
			t.Errorf("%s: %v, %v", verb, review.Status.Allowed, err)
		}
	}
}

// BenchmarkDrivers measures the memory and calls that the stall watch needs until it
// knows the 2,000 drivers of the benchmark in package watch, on an API server. It
// asserts nothing.
func BenchmarkDrivers(b *testing.B) {
	for b.Loop() {
		ctx := b.Context()
		idle, err := controlPlane.StartStallWatch(ctx, "idle", os.Stderr, "--metrics-bind-address=0")
		if err != nil {
			b.Fatal(err)
		}
		without := idle.Memory()
		idle.Stop()
		for i := range 2000 {
			name := fmt.Sprintf("bench-%d", i)
			logs.write(name, time.Now(), "INFO at work")
			pod, err := cluster.Kubelet{Interface: api}.Driver(ctx, "spark", name)
			if err != nil {
				b.Fatal(err)
			}
			patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotations.LogStallAfter: "30m"}}})
			if _, err := api.CoreV1().Pods("spark").Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				b.Fatal(err)
			}
			state := map[string]any{"state": map[string]any{"running": map[string]any{"startedAt": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}}, "name": pod.Status.ContainerStatuses[0].Name}
			patch, _ = json.Marshal(map[string]any{"status": map[string]any{"containerStatuses": []any{state}}})
			if _, err := api.CoreV1().Pods("spark").Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
				b.Fatal(err)
			}
		}
		began := time.Now()
		w, err := controlPlane.StartStallWatch(ctx, "bench", os.Stderr, "--metrics-bind-address=0", "--calls-per-second=50")
		if err != nil {
			b.Fatal(err)
		}
		for known := 0; known < 2000; time.Sleep(time.Second) {
			known = 0
			for i := range 2000 {
				known += min(1, logs.times(fmt.Sprintf("bench-%d", i)))
			}
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-until-all-known")
		b.ReportMetric(float64(w.Memory())/(1<<20), "MiB")
		b.ReportMetric(float64(w.Memory()-without)/2000, "B/driver")
		w.Stop()
	}
}
