package driverui

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// driver returns the pod of a driver, as Spark makes it.
func driver(t *testing.T) spark.Pod {
	t.Helper()
	pod, err := spark.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pi-driver", Namespace: "jobs", Labels: map[string]string{spark.RoleLabel: "driver", spark.ApplicationLabel: "spark-1"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "spark-kubernetes-driver", Args: []string{"driver"},
			Ports: []corev1.ContainerPort{{Name: spark.UIPort, ContainerPort: 4040}},
		}}},
		Status: corev1.PodStatus{PodIP: "10.1.2.3", HostIP: "10.0.0.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// serve returns a client whose every driver has this UI.
func serve(t *testing.T, ui http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		ui(w, r)
	}))
	t.Cleanup(server.Close)
	c := New()
	c.address = func(spark.Pod) (netip.AddrPort, bool) {
		return netip.MustParseAddrPort(server.Listener.Addr().String()), true
	}
	return c
}

// answer serves a file of testdata, which real Spark answered, at its path.
func answer(t *testing.T, path, file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/applications/spark-1"+path {
			t.Errorf("asked for %s", r.URL.Path)
		}
		http.ServeFile(w, r, filepath.Join("testdata", file))
	}
}

var versions = []string{"3.5.9", "4.1.4", "4.3.0"}

// The settings are read of the answer of each version.
func TestSettings(t *testing.T) {
	for _, version := range versions {
		s, err := serve(t, answer(t, "/environment", "environment-"+version+".json")).Settings(t.Context(), driver(t))
		if err != nil {
			t.Fatal(version, err)
		}
		if s.Executor.Heap != 1024 || s.TaskCPUs != 1 || s.HeartbeatSeconds != 10 {
			t.Errorf("%s: %+v", version, s)
		}
	}
}

// A resource profile has its own memory, and no memoryOverhead of the configuration.
func TestProfiles(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"resourceProfiles": [
			{"id": 0, "executorResources": {"cores": {"amount": 2}, "memory": {"amount": 1024}}, "taskResources": {"cpus": {"amount": 2.0}}},
			{"id": 1, "executorResources": {"memory": {"amount": 4096}, "pyspark.memory": {"amount": 700}}, "taskResources": {"cpus": {"amount": 4.0}, "gpu": {"amount": 1.0}}}],
			"sparkProperties": [["spark.executor.memory", "1g"], ["spark.executor.memoryOverhead", "600m"],
				["spark.memory.offHeap.enabled", "true"], ["spark.memory.offHeap.size", "536870912"],
				["spark.secret", "x"], ["spark.jars.packages", "ml.dmlc:XGBoost4j-spark_2.12:2.1.4"], ["odd"], ["spark.executor.cores", 4], 7]}`))
	})
	s, err := c.Settings(t.Context(), driver(t))
	if err != nil {
		t.Fatal(err)
	}
	want := &spark.Settings{
		Driver:   spark.MemorySettings{Heap: 1024},
		Executor: spark.MemorySettings{Heap: 1024, Overhead: 600, OffHeap: 512},
		Profiles: map[string]spark.MemorySettings{"1": {Heap: 4096, OffHeap: 512, PySpark: 700}},
		TaskCPUs: 2, MaxTaskCPUs: 4, OtherResources: true, Slots: "XGBoost", HeartbeatSeconds: 10,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// How many cores a task takes is known only if all say a whole number. What shows in
// the settings that fewer tasks at a time would be wrong is noted.
func TestTasks(t *testing.T) {
	for _, c := range []struct {
		properties, tasks string
		want              spark.Settings
	}{
		{``, `{}`, spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1}},
		{`["spark.task.cpus", "3"]`, `{"cpus": {"amount": 3}}`, spark.Settings{TaskCPUs: 3, MaxTaskCPUs: 3}},
		{`["spark.task.cpus", "0.5"]`, `{"cpus": {"amount": 0.5}}`, spark.Settings{}},
		{``, `{"cpus": {"amount": 1.5}}`, spark.Settings{}},
		{`["spark.executor.resource.gpu.amount", "1"]`, `{}`, spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, OtherResources: true}},
		{`["spark.streaming.backpressure.enabled", "true"]`, `{}`, spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, Slots: "Spark Streaming"}},
		{`["spark.kubernetes.allocation.recoveryMode.enabled", "false"]`, `{}`, spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, RecoveryMode: "false"}},
	} {
		s, err := readSettings(decode(strings.NewReader(fmt.Sprintf(`{"sparkProperties": [%s], "resourceProfiles": [{"id": 0, "taskResources": %s}]}`, c.properties, c.tasks)), maxToken))
		if err != nil {
			t.Fatal(c, err)
		}
		s.Driver, s.Executor, s.HeartbeatSeconds = spark.MemorySettings{}, spark.MemorySettings{}, 0
		if diff := cmp.Diff(&c.want, s); diff != "" {
			t.Error(c.properties, c.tasks, diff)
		}
	}
}

// What executors measured is read of the answer of each version.
func TestPeaks(t *testing.T) {
	for _, version := range versions {
		peaks, err := serve(t, answer(t, "/allexecutors", "allexecutors-"+version+".json")).Peaks(t.Context(), driver(t), func(id int64) bool { return id == 1 })
		if err != nil {
			t.Fatal(version, err)
		}
		p := peaks.Of[1]
		if p.Heap < 40<<20 || p.Heap > 100<<20 || p.OffHeap == 0 || peaks.MaxHeap != p.Heap {
			t.Errorf("%s: %+v", version, peaks)
		}
		var own Peaks
		err = serve(t, answer(t, "/allexecutors", "allexecutors-"+version+".json")).EachExecutor(t.Context(), driver(t), func(e *Executor) {
			if e.IsDriver {
				own = e.Peaks
			}
		})
		if err != nil || own.Heap < 40<<20 || own.Heap > 1<<30 || own == p {
			t.Errorf("%s: the driver %+v, %v", version, own, err)
		}
		if version == "3.5.9" && (p.JVM>>20 != 207 || p.Python>>20 != 934) {
			t.Errorf("%s: processes %+v", version, p)
		}
	}
}

// An executor that sent no heartbeat has measured nothing, and one that the driver does
// not list is not in the answer.
func TestNoHeartbeat(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`[{"id":"1","peakMemoryMetrics":{"JVMHeapMemory":0}},{"id":"2"},{"id":"3","peakMemoryMetrics":null},{"peakMemoryMetrics":{"JVMHeapMemory":5}},{"id":"-4","peakMemoryMetrics":{"JVMHeapMemory":5}}]`))
	})
	all, err := c.Peaks(t.Context(), driver(t), func(int64) bool { return true })
	if want := (Executors{Of: map[int64]Peaks{1: {}, 2: {}, 3: {}}}); err != nil || !cmp.Equal(all, want) {
		t.Error(all, err)
	}
}

// Of many executors those are kept that were asked about.
func TestManyExecutors(t *testing.T) {
	var answer strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&answer, `,{"id":"%d","peakMemoryMetrics":{"JVMHeapMemory":%d}}`, i+1, i+1)
	}
	all, err := readPeaks(decode(strings.NewReader("["+answer.String()[1:]+"]"), maxToken), func(id int64) bool { return id == 4321 })
	if err != nil || all.Of[4321].Heap != 4321 || all.MaxHeap != 5000 || len(all.Of) > maxOthers+1 {
		t.Error(len(all.Of), all.MaxHeap, err)
	}
	seen, dead := 0, 0
	text := `[{"id":"driver","isActive":true},{"id":"7","isActive":false},` + answer.String()[1:] + "]"
	err = eachExecutor(decode(strings.NewReader(text), maxToken), func(e *Executor) {
		seen++
		if e.Dead {
			dead++
		}
	})
	if err != nil || seen != 5002 || dead != 1 {
		t.Error(seen, dead, err)
	}
}

// A stranger's answer is an error soon, with little memory, and never another call.
func TestHostile(t *testing.T) {
	endless := func(w http.ResponseWriter, begin, again string) {
		_, _ = w.Write([]byte(begin))
		for range 1 << 30 {
			if _, err := w.Write([]byte(again)); err != nil {
				return
			}
		}
	}
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	kilobyte := strings.Repeat("x", 1024)
	for name, ui := range map[string]http.HandlerFunc{
		"a redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"a login":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"a page":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html></html>")) },
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"half":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[{"id":"1","peak`)) },
		"another type": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`7`)) },
		"executors for ever": func(w http.ResponseWriter, _ *http.Request) {
			endless(w, `[{"id":"1"}`, `,{"id":"1","peakMemoryMetrics":{"JVMHeapMemory":1}}`)
		},
		"a name for ever":    func(w http.ResponseWriter, _ *http.Request) { endless(w, `[{"id":"`, kilobyte) },
		"a field for ever":   func(w http.ResponseWriter, _ *http.Request) { endless(w, `[{"`, kilobyte) },
		"objects in objects": func(w http.ResponseWriter, _ *http.Request) { endless(w, `[{"a":`, `{"a":`) },
		"spaces for ever":    func(w http.ResponseWriter, _ *http.Request) { endless(w, ``, strings.Repeat(" ", 1024)) },
		"a bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			_, _ = packed.Write([]byte(`[{"id":"1"`))
			for range 1 << 30 {
				if _, err := packed.Write([]byte(strings.Repeat(" ", 1<<20))); err != nil {
					return
				}
			}
		},
		"headers for ever": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("A", strings.Repeat("a", 1<<20)) },
		"an informative 103s": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, ui)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			peaks, err := c.Peaks(t.Context(), driver(t), func(int64) bool { return true })
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error(len(peaks.Of), "peaks and no error")
			}
			if kept := int64(after.HeapInuse) - int64(before.HeapInuse); kept > 32<<20 {
				t.Errorf("%d bytes of heap in use", kept)
			}
		})
	}
	if reached {
		t.Error("a redirect was followed")
	}
}

// A UI that accepts and says nothing costs no more than the time that the caller gives.
func TestSilent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := New()
	c.address = func(spark.Pod) (netip.AddrPort, bool) {
		return netip.MustParseAddrPort(listener.Addr().String()), true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Settings(ctx, driver(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Proxies of the environment are not used: they would see what is asked of whom.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	t.Setenv("http_proxy", "http://127.0.0.1:9")
	c := New()
	if transport, ok := c.http.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("a proxy is used")
	}
}

// A driver without an address of its own is not asked.
func TestNoAddress(t *testing.T) {
	pod := driver(t)
	pod.Spec.HostNetwork = true
	if _, err := New().Settings(t.Context(), pod); !errors.Is(err, ErrNoAddress) {
		t.Error(err)
	}
}

// Whatever a UI answers, what is kept is bounded.
func FuzzAnswers(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`[{"threadName":"main","stackTrace":{"elems":["a.b(C.java:1)\n\t- locked x"]},"blockedByThreadId":3}]`)
	f.Fuzz(func(t *testing.T, answer string) {
		if s, err := readSettings(decode(strings.NewReader(answer), maxToken)); err == nil && len(fmt.Sprint(*s)) > 100<<10 {
			t.Error(len(fmt.Sprint(*s)))
		}
		if p, err := readPeaks(decode(strings.NewReader(answer), maxToken), func(int64) bool { return true }); err == nil && len(p.Of) > 1<<20 {
			t.Error(len(p.Of))
		}
		threads, err := readThreads(decode(strings.NewReader(answer), maxToken))
		if err != nil {
			return
		}
		for _, thread := range threads {
			if len(thread.Name) > maxText || len(thread.Stack) > maxFrames {
				t.Error(len(thread.Name), len(thread.Stack))
			}
		}
	})
}
