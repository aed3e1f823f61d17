package remedy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// deaths returns executors that died one minute after the other, with so many cores.
func deaths(cause oom.Cause, cores ...int) (all []oom.Termination) {
	code := int32(137)
	for i, n := range cores {
		all = append(all, oom.Termination{
			Set: "executors", Number: int64(i + 1), Role: spark.Executor, Pod: fmt.Sprintf("app-exec-%d", i+1), Cause: cause, ExitCode: &code,
			At: metav1.NewTime(noon.Add(time.Duration(i) * time.Minute)), LimitMiB: 1408, HeapMiB: 1024, Cores: n,
		})
	}
	return all
}

// application returns an application of Spark 3.5.9 with these deaths, whose rule
// enables the remedy after two.
func application(dead []oom.Termination) remedy.Application {
	driver := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{spark.RoleLabel: "driver", spark.ApplicationLabel: "spark-1", spark.VersionLabel: "3.5.9"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: spark.DriverContainer}}},
	}
	pod, err := spark.PodOf(driver)
	if err != nil {
		panic(err)
	}
	record := &oom.Record{}
	record.Add(dead...)
	return remedy.Application{
		Driver: pod, Record: record,
		Terms:    map[string]annotations.RemedyTerms{"0": {Mode: annotations.Enabled, AfterDeaths: 2}},
		Settings: &spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1}, Barrier: new(bool),
	}
}

// say returns plans in short: "0: 4 to 2".
func say(plans []annotations.RemedyPlan) string {
	var all []string
	for _, p := range plans {
		text := fmt.Sprintf("%s: %d to %d", p.Profile, p.FromCores, p.ToCores)
		if m := p.Memory; m != nil {
			text += fmt.Sprintf(", limit %d to %d, heap %d to %d", m.FromLimitMiB, m.ToLimitMiB, m.FromHeapMiB, m.ToHeapMiB)
		}
		if p.Mode == annotations.Audit {
			text += ", audit"
		}
		if p.Refused != "" {
			text += ", refused: " + p.Refused
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// The steps: half of the tasks, then one.
func TestSteps(t *testing.T) {
	oneTask := ", refused: an executor already runs one task at a time, and the rule has no maxMemory, so memory is not raised"
	for _, c := range []struct {
		name     string
		dead     []oom.Termination
		taskCPUs int
		want     string
	}{
		{"one death", deaths(oom.HeapOOM, 4), 1, ""},
		{"two deaths", deaths(oom.HeapOOM, 4, 4), 1, "0: 4 to 2"},
		{"twenty at once", deaths(oom.OOMKilled, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4), 1, "0: 4 to 2"},
		{"one with half of the tasks died", deaths(oom.OOMKilled, 4, 4, 2), 1, "0: 4 to 1"},
		{"one with one task died", deaths(oom.OOMKilled, 4, 4, 2, 1), 1, "0: 4 to 1" + oneTask},
		{"an odd number", deaths(oom.ChildOOMKilled, 3, 3), 1, "0: 3 to 1"},
		{"whole tasks", deaths(oom.HeapOOM, 7, 7), 2, "0: 7 to 2"},
		{"whole tasks, many", deaths(oom.HeapOOM, 12, 12), 3, "0: 12 to 6"},
		{"one core", deaths(oom.HeapOOM, 1, 1), 1, "0: 1 to 1" + oneTask},
		{"one task", deaths(oom.HeapOOM, 3, 3), 2, "0: 3 to 3" + oneTask},
		{"perhaps memory", deaths(oom.Killed, 4, 4), 1, ""},
		{"not the heap", deaths(oom.JavaOOM, 4, 4), 1, ""},
		{"the node", deaths(oom.EvictedMemory, 4, 4), 1, ""},
		{"cores are not known", deaths(oom.HeapOOM, 0, 0), 1, ""},
		{"more cores than exist", deaths(oom.HeapOOM, 5000, 5000), 1, ""},
	} {
		a := application(nil)
		a.Settings.TaskCPUs, a.Settings.MaxTaskCPUs = c.taskCPUs, c.taskCPUs
		var plans []annotations.RemedyPlan
		for _, d := range c.dead {
			a.Record.Add(d)
			plans = remedy.Plans(plans, a)
		}
		if got := say(plans); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// With a ceiling an executor that runs one task gets more memory: as heap if that was
// full, and beside it otherwise.
func TestMemory(t *testing.T) {
	// shape is what an executor died with.
	type shape struct {
		cores       int
		limit, heap int64
	}
	for _, c := range []struct {
		name    string
		cause   oom.Cause
		ceiling int64
		dead    []shape
		want    string
	}{
		{"two steps of cores first", oom.HeapOOM, 8192, []shape{{4, 1408, 1024}, {4, 1408, 1024}}, "0: 4 to 2"},
		{"with one task", oom.HeapOOM, 8192, []shape{{4, 1408, 1024}, {4, 1408, 1024}, {2, 1408, 1024}}, "0: 4 to 1, limit 1408 to 1971, heap 1024 to 1536"},
		{"and again", oom.HeapOOM, 8192, []shape{{4, 1408, 1024}, {4, 1408, 1024}, {2, 1408, 1024}, {1, 1971, 1536}}, "0: 4 to 1, limit 1408 to 2815, heap 1024 to 2304"},
		{"one core", oom.HeapOOM, 8192, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, limit 1408 to 1971, heap 1024 to 1536"},
		{"beside the heap", oom.OOMKilled, 8192, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, limit 1408 to 2112, heap 1024 to 1024"},
		{"up to the ceiling", oom.OOMKilled, 1600, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, limit 1408 to 1600, heap 1024 to 1024"},
		{"heap up to the ceiling", oom.HeapOOM, 1600, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, limit 1408 to 1599, heap 1024 to 1198"},
		{"at the ceiling", oom.OOMKilled, 1500, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, refused: an executor already runs one task at a time, and the rule's maxMemory is 1500 MiB"},
		{"over the ceiling", oom.OOMKilled, 1024, []shape{{1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, refused: an executor already runs one task at a time, and the rule's maxMemory is 1024 MiB"},
		{"the heap is not known", oom.OOMKilled, 8192, []shape{{1, 1408, 0}, {1, 1408, 0}}, "0: 1 to 1, refused: an executor already runs one task at a time, and the pod does not show its heap"},
		{"an executor that Spark made", oom.HeapOOM, 8192, []shape{{1, 1408, 1024}, {1, 1408, 1024}, {1, 1408, 1024}}, "0: 1 to 1, limit 1408 to 1971, heap 1024 to 1536"},
	} {
		a := application(nil)
		a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Enabled, AfterDeaths: 2, MaxMemoryMiB: c.ceiling}
		var plans []annotations.RemedyPlan
		for i, d := range deaths(c.cause, make([]int, len(c.dead))...) {
			d.Cores, d.LimitMiB, d.HeapMiB = c.dead[i].cores, c.dead[i].limit, c.dead[i].heap
			a.Record.Add(d)
			plans = remedy.Plans(plans, a)
		}
		if got := say(plans); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What speaks against fewer tasks.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*remedy.Application)
		want   string
	}{
		{"settings", func(a *remedy.Application) { a.Settings = nil }, "did not say"},
		{"stages", func(a *remedy.Application) { a.Barrier = nil }, "did not show the stages"},
		{"a barrier stage", func(a *remedy.Application) { *a.Barrier = true }, "barrier stage"},
		{"recovery mode", func(a *remedy.Application) { a.Driver.Labels[spark.VersionLabel] = "4.3.0" }, "recovery mode"},
		{"recovery mode on", func(a *remedy.Application) {
			a.Driver.Labels[spark.VersionLabel], a.Settings.RecoveryMode = "4.2.0", "true"
		}, "recovery mode"},
		{"recovery mode off", func(a *remedy.Application) {
			a.Driver.Labels[spark.VersionLabel], a.Settings.RecoveryMode = "4.3.0", "false"
		}, ""},
		{"half a core", func(a *remedy.Application) { a.Settings.TaskCPUs = 0 }, "not whole"},
		{"half a core elsewhere", func(a *remedy.Application) { a.Settings.MaxTaskCPUs = 0 }, "not whole"},
		{"GPUs", func(a *remedy.Application) { a.Settings.OtherResources = true }, "GPUs"},
		{"slots", func(a *remedy.Application) { a.Settings.Slots = "Horovod" }, "name Horovod"},
		{"larger tasks elsewhere", func(a *remedy.Application) { a.Settings.MaxTaskCPUs = 3 }, "need 3 cores"},
		{"tasks of half an executor elsewhere", func(a *remedy.Application) { a.Settings.MaxTaskCPUs = 2 }, ""},
		{"a limit for Python", func(a *remedy.Application) {
			for i := range a.Record.Details {
				a.Record.Details[i].Cause = oom.ChildOOMKilled
			}
			a.Settings.Executor.PySpark = 400
			a.Driver.Spec.Containers[0].Args = []string{"driver", "--class", "org.apache.spark.deploy.PythonRunner"}
		}, "each Python worker"},
	} {
		a := application(deaths(oom.HeapOOM, 4, 4))
		c.change(&a)
		plans := remedy.Plans(nil, a)
		switch {
		case len(plans) != 1:
			t.Errorf("%s: %v", c.name, plans)
		case c.want == "" && (plans[0].Refused != "" || !plans[0].Changes()), c.want != "" && (!strings.Contains(plans[0].Refused, c.want) || plans[0].Changes()):
			t.Errorf("%s: %s, want %q", c.name, say(plans), c.want)
		}
	}
}

// A barrier stage that is seen later takes the cores of a plan back, and more memory
// stays.
func TestBarrierLater(t *testing.T) {
	for name, c := range map[string]struct {
		ceiling int64
		cores   int // of the executor that dies then
		want    string
	}{
		"one with all cores":   {0, 4, "0: 4 to 4, refused: a job has a barrier stage"},
		"one with fewer cores": {0, 2, "0: 4 to 4, refused: a job has a barrier stage"},
		"memory":               {8192, 2, "0: 4 to 4, limit 1408 to 1971, heap 1024 to 1536, refused: a job has a barrier stage"},
	} {
		a := application(deaths(oom.HeapOOM, 4, 4))
		plans := remedy.Plans(nil, a)
		if got := say(plans); got != "0: 4 to 2" {
			t.Fatal(got)
		}
		a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Enabled, AfterDeaths: 2, MaxMemoryMiB: c.ceiling}
		*a.Barrier = true
		a.Record.Add(deaths(oom.HeapOOM, 4, 4, c.cores)[2])
		if got := say(remedy.Plans(plans, a)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Deaths that more room for a task does not prevent count for nothing.
func TestDeathsThatDoNotCount(t *testing.T) {
	for name, change := range map[string]func(*oom.Termination){
		"no limit":        func(d *oom.Termination) { d.LimitMiB = 0 },
		"local files":     func(d *oom.Termination) { d.LocalDirsInMemory = true },
		"far below limit": func(d *oom.Termination) { d.Peaks = &oom.Peaks{HeapMiB: 100, JVMMiB: 300} },
		"a sidecar":       func(d *oom.Termination) { d.Container = "proxy" },
		"another profile": func(d *oom.Termination) { d.Profile = "1" },
	} {
		dead := deaths(oom.OOMKilled, 4, 4)
		for i := range dead {
			change(&dead[i])
		}
		if plans := remedy.Plans(nil, application(dead)); len(plans) > 0 {
			t.Errorf("%s: %s", name, say(plans))
		}
	}
}

// A plan ends some hours after the last death, and then the executors die as at first
// before there is another.
func TestEnd(t *testing.T) {
	a := application(deaths(oom.HeapOOM, 4, 4))
	plans := remedy.Plans(nil, a)
	if want := noon.Add(6*time.Hour + time.Minute); !plans[0].Until.Equal(want) {
		t.Fatal(plans[0].Until, want)
	}
	late := deaths(oom.HeapOOM, 4, 4, 4, 4)[2:]
	for i := range late {
		late[i].At = metav1.NewTime(noon.Add(7*time.Hour + time.Duration(i)*time.Minute))
	}
	a.Record.Add(late[0])
	if got := say(remedy.Plans(plans, a)); got != "0: 4 to 2" {
		t.Error("after the end:", got)
	}
	if ended := remedy.Plans(plans, a)[0].Until; !ended.Equal(plans[0].Until) {
		t.Error("one death renewed a plan that had ended:", ended)
	}
	a.Record.Add(late[1])
	if got := remedy.Plans(plans, a); say(got) != "0: 4 to 2" || !got[0].Until.Equal(noon.Add(13*time.Hour+time.Minute)) {
		t.Error("two deaths after the end:", say(got), got[0].Until)
	}
}

// The driver's annotation turns it off, and another application of the same pod begins
// anew.
func TestOff(t *testing.T) {
	a := application(deaths(oom.HeapOOM, 4, 4))
	a.Driver.Annotations = map[string]string{annotations.RemedyMode: "disabled"}
	if plans := remedy.Plans(nil, a); len(plans) > 0 {
		t.Error(say(plans))
	}
	a.Driver.Annotations = nil
	plans := remedy.Plans(nil, a)
	a.Driver.Labels[spark.ApplicationLabel] = "spark-2"
	a.Record = &oom.Record{}
	a.Record.Add(deaths(oom.HeapOOM, 2, 2)...)
	if got := remedy.Plans(plans, a); say(got) != "0: 2 to 1" || got[0].Application != "spark-2" {
		t.Error(got)
	}
}

// In audit executors go on with all their cores, so a plan stays at its first step.
func TestAudit(t *testing.T) {
	a := application(deaths(oom.HeapOOM, 4, 4, 4, 4, 4))
	a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Audit, AfterDeaths: 2}
	if got := say(remedy.Plans(nil, a)); got != "0: 4 to 2, audit" {
		t.Error(got)
	}
}

// In whatever order deaths arrive, a replay changes nothing. No plan gives an executor
// less than a task needs, more cores than it had, or more memory than the ceiling.
func TestPlansAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cores := rapid.SampledFrom([]int{1, 2, 3, 4, 6, 8, 16}).Draw(t, "cores")
		cpus := rapid.IntRange(1, 4).Draw(t, "cpus")
		after := rapid.IntRange(1, 4).Draw(t, "after")
		ceiling := rapid.SampledFrom([]int64{0, 1024, 1500, 4096}).Draw(t, "ceiling")
		dead := deaths(oom.OOMKilled, rapid.SliceOfN(rapid.SampledFrom([]int{cores, max(cores/2, 1), 1}), 1, 16).Draw(t, "dead")...)
		dead[len(dead)-1].Cores = cores // the newest decides what Spark gives
		check := func(order []int) {
			var plans []annotations.RemedyPlan
			record := &oom.Record{}
			for _, i := range order {
				a := application(nil)
				record.Add(dead[i])
				a.Record, a.Settings = record, &spark.Settings{TaskCPUs: cpus, MaxTaskCPUs: cpus}
				a.Terms["0"] = annotations.RemedyTerms{Mode: annotations.Enabled, AfterDeaths: after, MaxMemoryMiB: ceiling}
				plans = remedy.Plans(plans, a)
				if again := remedy.Plans(plans, a); !reflect.DeepEqual(again, plans) {
					t.Fatalf("a replay changes %s to %s", say(plans), say(again))
				}
				for _, p := range plans {
					if p.FewerCores() && p.ToCores < cpus || p.ToCores > p.FromCores || p.FewerCores() && p.ToCores%cpus != 0 {
						t.Fatalf("%s with tasks of %d cores", say(plans), cpus)
					}
					if p.Memory != nil && p.Memory.ToLimitMiB > ceiling {
						t.Fatalf("%s with a ceiling of %d", say(plans), ceiling)
					}
				}
			}
		}
		order := make([]int, len(dead))
		for i := range order {
			order[i] = i
		}
		check(order)
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		check(order)
	})
}
