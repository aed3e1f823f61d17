package recorder

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kubetesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedying returns a recorder that knows a running driver, whose settings it learned.
func remedying(t *testing.T) *site {
	t.Helper()
	driver := runningDriver(t).Pod
	s := recording(t, driver)
	s.knowledge = newKnowledge(&testUI{})
	t.Cleanup(s.knowledge.queue.ShutDown)
	s.knowledge.learnFrom(t.Context(), driver, now)
	return s
}

// dies lets an executor with so many cores end with Spark's code for a full heap.
func (s *site) dies(t *testing.T, number, cores int, rule string) {
	t.Helper()
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named("spark-4.1.4/executor").Object(), p); err != nil {
		t.Fatal(err)
	}
	driver, controller := s.driver(t), true
	p.Namespace, p.Name, p.UID = "spark", fmt.Sprintf("etl-exec-%d", number), types.UID(fmt.Sprintf("%08d-x", number))
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: driver.Name, UID: driver.UID, Controller: &controller}}
	p.Labels[spark.ApplicationLabel], p.Labels[spark.ExecutorIDLabel] = driver.Labels[spark.ApplicationLabel], strconv.Itoa(number)
	p.Annotations = map[string]string{annotations.RemedyRule: rule}
	executor, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range executor.Container().Env {
		if e.Name == spark.ExecutorCores {
			executor.Container().Env[i].Value = strconv.Itoa(cores)
		}
	}
	at := metav1.NewTime(now.Add(time.Duration(number-10) * time.Second))
	p.Status = corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: executor.Container().Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 52, Reason: "Error", FinishedAt: at}},
	}}}
	s.see(t, p)
}

// works writes what is known, and shows the driver as it is then.
func (s *site) works(t *testing.T) *corev1.Pod {
	t.Helper()
	if err := s.work(t); err != nil {
		t.Fatal(err)
	}
	driver := s.driver(t)
	if err := s.pods.at("spark").GetIndexer().Update(strip(driver)); err != nil {
		t.Fatal(err)
	}
	return driver
}

const enabled, audit = `{"mode":"enabled","afterDeaths":2}`, `{"mode":"audit","afterDeaths":2}`

// After two deaths the record says what later executors are to get, there is an Event
// and it counts. A third death with those cores leads to the next step.
func TestRemedy(t *testing.T) {
	s := remedying(t)
	s.dies(t, 1, 4, enabled)
	if driver := s.works(t); driver.Annotations[annotations.Remedy] != "" {
		t.Fatal("after one death:", driver.Annotations[annotations.Remedy])
	}
	s.dies(t, 2, 4, enabled)
	driver := s.works(t)
	plans := annotations.ReadRemedy(driver.Annotations[annotations.Remedy])
	if len(plans) != 1 || plans[0].FromCores != 4 || plans[0].ToCores != 2 || plans[0].Application != driver.Labels[spark.ApplicationLabel] {
		t.Fatal(driver.Annotations[annotations.Remedy])
	}
	const sentence = "Remedy: until 2026-11-21 14:39 UTC new executors are to start with 2 cores instead of 4, so that fewer tasks share the memory. To keep the cores in later runs, set spark.executor.cores=2."
	if text := driver.Annotations[annotations.Message]; !strings.Contains(text, sentence) || strings.Contains(text, "lower spark.executor.cores") {
		t.Error(text)
	}
	s.dies(t, 3, 2, enabled)
	driver = s.works(t)
	if plans := annotations.ReadRemedy(driver.Annotations[annotations.Remedy]); len(plans) != 1 || plans[0].ToCores != 1 {
		t.Error(driver.Annotations[annotations.Remedy])
	}
	s.createAll(t)
	told := 0
	for _, e := range s.events(t) {
		if e.Reason == "ExecutorRemedy" && e.Type == corev1.EventTypeNormal {
			told++
		}
	}
	if n := testutil.ToFloat64(s.metrics.plans.WithLabelValues("enabled", changedRemedy)); n != 2 || told != 2 {
		t.Errorf("%v plans are counted, %d have an Event", n, told)
	}
}

// A barrier stage needs the slots of whole executors. Once a driver showed one, that
// counts for its life.
func TestRemedyOfBarrier(t *testing.T) {
	s := remedying(t)
	ui := s.knowledge.ui.(*testUI)
	ui.hasBarrier = true
	s.dies(t, 1, 4, enabled)
	if s.knowledge.knows(s.driver(t).UID).plan.answered == nil {
		t.Error("the driver is not asked while the death waits")
	}
	s.dies(t, 2, 4, enabled)
	driver := s.works(t)
	if plans := annotations.ReadRemedy(driver.Annotations[annotations.Remedy]); len(plans) != 1 || plans[0].Changes() || !strings.Contains(plans[0].Refused, "a barrier stage") {
		t.Error(driver.Annotations[annotations.Remedy])
	}
	ui.hasBarrier = false
	later := now.Add(time.Minute)
	<-s.knowledge.askForPlan(t.Context(), driver.UID, later, func() spark.Pod { return runningDriver(t) }, later)
	if b := s.knowledge.basis(driver.UID, later, later).barrier; b == nil || !*b {
		t.Error("the barrier stage is forgotten")
	}
}

// Without the stamp of a rule nothing is planned, and in audit the message says what
// would be.
func TestRemedyByRule(t *testing.T) {
	s := remedying(t)
	for n := range 3 {
		s.dies(t, n+1, 4, "")
	}
	if driver := s.works(t); driver.Annotations[annotations.Remedy] != "" {
		t.Error("without a rule:", driver.Annotations[annotations.Remedy])
	}
	s.dies(t, 4, 4, audit)
	driver := s.works(t)
	if text := driver.Annotations[annotations.Message]; !strings.Contains(text, "If the remedy were enabled, new executors would start with 2 cores instead of 4") || !strings.Contains(text, "lower spark.executor.cores") {
		t.Error(text)
	}
}

// A driver whose UI said nothing lately has no plan, and its record says why.
func TestRemedyWithoutSettings(t *testing.T) {
	s := remedying(t)
	s.knowledge = newKnowledge(&testUI{fails: true})
	t.Cleanup(s.knowledge.queue.ShutDown)
	s.dies(t, 1, 4, enabled)
	s.dies(t, 2, 4, enabled)
	if text := s.works(t).Annotations[annotations.Message]; !strings.Contains(text, "The remedy does nothing for executors: the driver's UI did not say how many cores a task needs, and the rule has no maxMemory") {
		t.Error(text)
	}
}

// A driver is asked once while its first executor runs, so that it answers in time when
// one dies.
func TestDriverIsPrepared(t *testing.T) {
	s := remedying(t)
	ui := s.knowledge.ui.(*testUI)
	running := runningDriver(t).DeepCopy()
	running.Name, running.UID = "etl-exec-1", "e-1"
	running.Labels[spark.RoleLabel] = "executor"
	for _, c := range []struct {
		rule  string
		asked int32
	}{{"", 0}, {enabled, 1}, {enabled, 1}} {
		running.Annotations = map[string]string{annotations.RemedyRule: c.rule}
		if err := s.pods.at("spark").GetIndexer().Update(running); err != nil {
			t.Fatal(err)
		}
		s.attempt(t.Context(), applicationOf(runningDriver(t)))
		if known := s.knowledge.knows(runningDriver(t).UID); known.plan.answered != nil {
			<-known.plan.answered
		}
		if asked := ui.barrier.Load(); asked != c.asked {
			t.Errorf("with the rule %q asked %d times, want %d", c.rule, asked, c.asked)
		}
	}
}

// A plan waits for a slow driver's UI. If that says nothing for a minute, the record says
// why there is none.
func TestRemedyWaitsForUI(t *testing.T) {
	for name, c := range map[string]struct {
		answers int // after so many tries
		want    string
	}{"slow": {3, `"toCores":2`}, "silent": {100, "the driver's UI did not say"}} {
		t.Run(name, func(t *testing.T) {
			s := remedying(t)
			ui := s.knowledge.ui.(*testUI)
			ui.fails = true
			s.dies(t, 1, 4, enabled)
			s.dies(t, 2, 4, enabled)
			driver := s.works(t)
			app := applicationOf(runningDriver(t))
			for try := range planRetries + 1 {
				if text := driver.Annotations[annotations.Remedy]; text != "" && try <= c.answers && try < planRetries {
					t.Fatalf("after %d tries: %s", try, text)
				}
				ui.fails = try < c.answers
				later := s.now().Add(40 * time.Second)
				s.now = func() time.Time { return later }
				s.attempt(t.Context(), app)
				driver = s.driver(t)
			}
			if text := driver.Annotations[annotations.Remedy]; !strings.Contains(text, c.want) {
				t.Errorf("it says %q, want %q", text, c.want)
			}
			if n := len(s.patches()); n != 2 {
				t.Errorf("%d patches", n)
			}
		})
	}
}

// A guard of an earlier version refuses the remedy: the death is written without it.
func TestRemedyIsRefused(t *testing.T) {
	s := remedying(t)
	s.PrependReactor("patch", "pods", func(action kubetesting.Action) (bool, runtime.Object, error) {
		if strings.Contains(string(action.(kubetesting.PatchAction).GetPatch()), annotations.Remedy) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "etl", nil)
		}
		return false, nil, nil
	})
	s.dies(t, 1, 4, enabled)
	s.dies(t, 2, 4, enabled)
	if driver := s.works(t); driver.Annotations[annotations.OOM] == "" || driver.Annotations[annotations.Remedy] != "" {
		t.Error(driver.Annotations)
	}
}

// More memory is withdrawn if no executor is created with it, and that is told.
func TestRemedyIsWithdrawn(t *testing.T) {
	const memory = `{"mode":"enabled","afterDeaths":2,"maxMemoryMiB":8192}`
	s := remedying(t)
	s.dies(t, 1, 1, memory)
	s.dies(t, 2, 1, memory)
	driver := s.works(t)
	plans := annotations.ReadRemedy(driver.Annotations[annotations.Remedy])
	if len(plans) != 1 || !plans[0].MoreMemory() || plans[0].Memory.ToHeapMiB != 1024 {
		t.Fatal(driver.Annotations[annotations.Remedy])
	}
	if text := driver.Annotations[annotations.Message]; !strings.Contains(text, "new executors are to start with a memory limit of 1459 MiB instead of 896 (heap 1024 instead of 512).") {
		t.Error(text)
	}
	if plans[0].Memory.Executors != 2 {
		t.Errorf("%d executors ran before", plans[0].Memory.Executors)
	}
	// A look comes in each attempt, also in one with facts that are known.
	for range 2 {
		if n := len(s.patches()); n != 1 {
			t.Fatalf("it is withdrawn at once: %d patches", n)
		}
		s.dies(t, 2, 1, memory)
		s.works(t)
		later := s.now().Add(30 * time.Second)
		s.now = func() time.Time { return later }
	}
	driver = s.driver(t)
	if plans := annotations.ReadRemedy(driver.Annotations[annotations.Remedy]); len(plans) != 1 || plans[0].MoreMemory() {
		t.Fatal(driver.Annotations[annotations.Remedy])
	}
	if text := driver.Annotations[annotations.Message]; !strings.Contains(text, "Executors no longer get more memory: fewer executors than before ran for 30 seconds") {
		t.Error(text)
	}
	if n := testutil.ToFloat64(s.metrics.plans.WithLabelValues("enabled", withdrawnRemedy)); n != 1 {
		t.Errorf("%v are counted as withdrawn", n)
	}
}
