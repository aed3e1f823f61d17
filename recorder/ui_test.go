package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// testUI answers as a driver's UI, and counts.
type testUI struct {
	settings, peaks int // how often it was asked
	barrier         atomic.Int32
	hasBarrier      bool
	fails           bool
	slow            time.Duration
	profiles        map[string]spark.MemorySettings
	measured        driverui.Executors
	driver          driverui.Peaks
	dead            bool // its executors
}

func (u *testUI) Settings(context.Context, spark.Pod) (*spark.Settings, error) {
	u.settings++
	if u.fails {
		return nil, errors.New("no answer")
	}
	return &spark.Settings{
		Driver:   spark.MemorySettings{Heap: 1024, Overhead: 384},
		Executor: spark.MemorySettings{Heap: 512, Overhead: 384}, TaskCPUs: 1, MaxTaskCPUs: 1, HeartbeatSeconds: 10,
		Profiles: u.profiles,
	}, nil
}

func (u *testUI) Barrier(context.Context, spark.Pod, []driverui.Job) (driverui.Barrier, error) {
	u.barrier.Add(1)
	if u.fails {
		return driverui.Barrier{}, errors.New("no answer")
	}
	return driverui.Barrier{Seen: u.hasBarrier}, nil
}

func (u *testUI) Peaks(context.Context, spark.Pod, func(int64) bool) (driverui.Executors, error) {
	u.peaks++
	time.Sleep(u.slow)
	if u.fails {
		return driverui.Executors{}, errors.New("no answer")
	}
	return u.measured, nil
}

func (u *testUI) EachExecutor(_ context.Context, _ spark.Pod, do func(*driverui.Executor)) error {
	if u.fails {
		return errors.New("no answer")
	}
	do(&driverui.Executor{IsDriver: true, Peaks: u.driver})
	for id, p := range u.measured.Of {
		do(&driverui.Executor{ID: id, Dead: u.dead, Peaks: p})
	}
	return nil
}

// runningDriver returns a driver whose UI may be asked.
func runningDriver(t *testing.T) spark.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named("spark-4.1.4/driver").Object(), p); err != nil {
		t.Fatal(err)
	}
	p.UID, p.Namespace, p.Name = "u-1", "spark", "etl"
	pod, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3", ContainerStatuses: []corev1.ContainerStatus{
		{Name: pod.Container().Name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	}}
	kept, err := spark.PodOf(strip(p))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := driverui.Address(kept); !ok {
		t.Fatal("what is kept of a driver has no address to ask")
	}
	return kept
}

// knowing returns what is known of a driver that said its settings.
func knowing(t *testing.T, ui *testUI) (*knowledge, spark.Pod) {
	t.Helper()
	k, driver := newKnowledge(ui), runningDriver(t)
	t.Cleanup(k.queue.ShutDown)
	fails := ui.fails
	ui.fails = false
	k.learnFrom(t.Context(), driver.Pod, now)
	ui.fails = fails
	return k, driver
}

// death returns a new fact about an executor.
func death(number int64, at time.Time) *fact {
	code := int32(137)
	return &fact{pod: &corev1.Pod{}, Termination: oom.Termination{
		Set: "executors", Number: number, Role: spark.Executor, Pod: "e", Cause: oom.OOMKilled, ExitCode: &code,
		At: metav1.NewTime(at), LimitMiB: 896, HeapMiB: 512,
	}}
}

// However many executors die, a driver is asked once in half a minute. What it said
// then also describes later deaths, and says how old it is.
func TestAskedOnce(t *testing.T) {
	ui := &testUI{measured: driverui.Executors{Of: map[int64]driverui.Peaks{1: {Heap: 300 << 20}, 2: {Heap: 400 << 20}, 4: {}}}}
	k, driver := knowing(t, ui)
	for i := range 100 {
		at := now.Add(time.Duration(i) * 290 * time.Millisecond)
		k.describe(t.Context(), driver, []*fact{death(int64(i)+1, at)}, 10, at)
	}
	if ui.peaks != 1 {
		t.Errorf("asked %d times in 29 s", ui.peaks)
	}
	at := now.Add(20 * time.Second)
	late, unmeasured, silent, evicted := death(2, at), death(3, at), death(4, at), death(5, at)
	evicted.Cause = oom.Disrupted
	k.describe(t.Context(), driver, []*fact{late, unmeasured, silent, evicted}, 10, at)
	if late.Peaks == nil || late.Peaks.HeapMiB != 400 || late.Peaks.WithinSeconds != 30 {
		t.Errorf("%+v", late.Peaks)
	}
	if unmeasured.Peaks != nil || silent.Peaks == nil || *silent.Peaks != (oom.Peaks{}) || evicted.Peaks != nil {
		t.Errorf("not listed %+v, without heartbeat %+v, evicted %+v", unmeasured.Peaks, silent.Peaks, evicted.Peaks)
	}
	k.describe(t.Context(), driver, []*fact{death(2, now)}, 10, now.Add(31*time.Second))
	if ui.peaks != 2 {
		t.Errorf("asked %d times in 31 s", ui.peaks)
	}
}

// A death waits for a slow driver. What that answers later is for later deaths.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ui := &testUI{measured: driverui.Executors{Of: map[int64]driverui.Peaks{1: {Heap: 300 << 20}}}, slow: 5 * time.Second}
		k, driver := knowing(t, ui)
		began, first, second := time.Now(), death(1, now), death(1, now)
		k.describe(t.Context(), driver, []*fact{first}, 10, now)
		if waited := time.Since(began); first.Peaks != nil || waited > 2*peaksTimeout {
			t.Errorf("waited %s for %+v", waited, first.Peaks)
		}
		time.Sleep(10 * time.Second)
		k.describe(t.Context(), driver, []*fact{second}, 10, now.Add(15*time.Second))
		if second.Peaks == nil || ui.peaks != 1 {
			t.Errorf("asked %d times, %+v", ui.peaks, second.Peaks)
		}
	})
}

// A driver that does not answer is asked less and less often, and costs nothing but what
// it would have said.
func TestAsksLessOften(t *testing.T) {
	ui := &testUI{fails: true}
	k, driver := knowing(t, ui)
	for i := range 3600 {
		d := death(1, now)
		k.describe(t.Context(), driver, []*fact{d}, 10, now.Add(time.Duration(i)*time.Second))
		if d.Peaks != nil || d.Settings == nil {
			t.Fatal(d.Peaks, d.Settings)
		}
	}
	if ui.peaks < 5 || ui.peaks > 9 {
		t.Errorf("asked %d times in an hour", ui.peaks)
	}
}

// A driver that has ended, and a death that is not of memory, are not asked about.
func TestAsksOnlyWhatHelps(t *testing.T) {
	ui := &testUI{}
	k, driver := knowing(t, ui)
	evicted := death(1, now)
	evicted.Cause = oom.Disrupted
	k.describe(t.Context(), driver, []*fact{evicted}, 10, now)
	driver.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	k.describe(t.Context(), driver, []*fact{death(1, now)}, 10, now)
	if ui.peaks > 0 {
		t.Errorf("asked %d times", ui.peaks)
	}
}

// A driver whose UI never answered, for example because a NetworkPolicy forbids it,
// delays no death.
func TestUnreachable(t *testing.T) {
	ui := &testUI{}
	k, driver := newKnowledge(ui), runningDriver(t)
	defer k.queue.ShutDown()
	k.describe(t.Context(), driver, []*fact{death(1, now)}, 10, now)
	if ui.peaks > 0 {
		t.Errorf("asked %d times", ui.peaks)
	}
}

// learning returns what is learned of a driver whose pod changes each second, for so many
// seconds. each is called before each change.
func learning(t *testing.T, ui *testUI, seconds int, each func(second int)) (*knowledge, spark.Pod) {
	t.Helper()
	k, driver := newKnowledge(ui), runningDriver(t)
	ctx, stop := context.WithCancel(t.Context())
	go k.learn(ctx, func(types.NamespacedName) *corev1.Pod { return driver.Pod }, time.Now)
	for second := range seconds {
		each(second)
		k.saw(driver, time.Now())
		time.Sleep(time.Second)
	}
	stop()
	synctest.Wait()
	return k, driver
}

// The settings are asked for until they are known, and describe the driver's own death.
func TestLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ui := &testUI{}
		k, driver := learning(t, ui, 120, func(second int) { ui.fails = second <= 10 })
		if ui.settings != 3 {
			t.Errorf("asked %d times", ui.settings)
		}
		code := int32(137)
		own := &fact{Termination: oom.Termination{Set: "driver", Role: spark.Driver, Cause: oom.OOMKilled, ExitCode: &code, LimitMiB: 1408, HeapMiB: 1000, Estimated: true}}
		k.describe(t.Context(), driver, []*fact{own}, 10, now)
		if own.Estimated || own.HeapMiB != 1024 || own.Settings == nil {
			t.Errorf("%+v", own.Termination)
		}
	})
}

// A driver that never answers is asked a few times, and again when it is looked at again,
// however often its pod changes.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ui := &testUI{fails: true}
		learning(t, ui, 3600, func(int) {})
		if ui.settings < settingsAttempts || ui.settings > 240 {
			t.Errorf("asked %d times in an hour", ui.settings)
		}
	})
}

// A program builds a resource profile after the driver was asked. The driver is asked
// again when an executor of it dies, once in half a minute.
func TestProfilesAreLearned(t *testing.T) {
	ui := &testUI{}
	k, driver := knowing(t, ui)
	ui.profiles = map[string]spark.MemorySettings{"1": {Heap: 512, Overhead: 300}}
	at := now.Add(uiPause)
	one, other := death(1, at), death(2, at)
	one.Profile, other.Profile = "1", "2"
	before := ui.settings
	k.describe(t.Context(), driver, []*fact{one, other}, 10, at)
	if one.Settings == nil || one.Settings.OverheadMiB != 300 || other.Settings != nil {
		t.Errorf("%+v, %+v", one.Settings, other.Settings)
	}
	for i := range 20 {
		f := death(3, at)
		f.Profile = "2"
		k.describe(t.Context(), driver, []*fact{f}, 10, at.Add(time.Duration(i)*time.Second))
	}
	if asked := ui.settings - before; asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// What a plan depends on is asked for again if executors die after the answer: the next
// job may be another one. A driver that does not answer is asked less and less often.
func TestBasis(t *testing.T) {
	for name, c := range map[string]struct {
		fails   bool
		atLeast int32
		atMost  int32
	}{"answers": {false, 20, 20}, "does not answer": {true, 3, 6}} {
		ui := &testUI{}
		k, driver := knowing(t, ui)
		ui.fails = c.fails
		for second := range 60 {
			f := death(int64(second), now)
			f.pod.Annotations, f.seen = map[string]string{annotations.RemedyRule: enabled}, now.Add(time.Duration(second)*time.Second)
			k.describe(t.Context(), driver, []*fact{f}, 10, f.seen)
		}
		if asked := ui.barrier.Load(); asked < c.atLeast || asked > c.atMost {
			t.Errorf("%s: asked %d times in a minute", name, asked)
		}
	}
}

// An answer counts for deaths that were seen before it, or just after it, and for a short
// time.
func TestBasisCounts(t *testing.T) {
	k, driver := knowing(t, &testUI{})
	<-k.askForPlan(t.Context(), driver.UID, now, func() spark.Pod { return driver }, now)
	for name, c := range map[string]struct {
		seen, later time.Duration
		want        bool
	}{
		"of this death": {0, 0, true}, "of an earlier one": {-time.Minute, time.Second, true}, "of one at the same time": {time.Second, time.Second, true},
		"of a later one": {8 * time.Second, 8 * time.Second, false}, "written late": {0, time.Minute, false},
	} {
		if b := k.basis(driver.UID, now.Add(c.seen), now.Add(c.later)); b.isComplete() != c.want {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

// Drivers of one namespace leave room for the questions to others, and a driver that
// nobody knows is not asked.
func TestAsking(t *testing.T) {
	k, driver := knowing(t, &testUI{})
	hold := make(chan struct{})
	defer close(hold)
	for range maxQuestions {
		k.asking.inBackground("hostile", func() { <-hold })
	}
	if k.asking.inBackground("spark", func() {}) == nil {
		t.Error("no room for another namespace")
	}
	if k.askForPlan(t.Context(), "made-up", now, func() spark.Pod { return driver }, now) != nil || k.knows("made-up") != nil {
		t.Error("an unknown driver is asked")
	}
}
