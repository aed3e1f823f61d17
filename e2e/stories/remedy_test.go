package stories

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// remedied is a story of an application whose executors die of memory, with a rule that
// has a remedy and without spark-vitals.
type remedied struct {
	story
	// cores are what the executors had at last, "" if none is changed.
	cores string
	// healthy: it succeeds without the remedy too.
	healthy bool
	// says is in the driver's record of it.
	says string
	// namespace is an object of the namespace, as YAML.
	namespace string
	// fails: the application fails with the remedy too.
	fails bool
	// group: the whole container is killed.
	group bool
	// left is in the webhook's stamp of each executor.
	left string
	// prepare changes the cluster until the story ends.
	prepare func(*testing.T)
	// during does something to the application with the remedy.
	during func(*testing.T, *run)
}

// remedying returns a story with the application's settings. Spark's own recovery mode,
// since 4.2, is off.
func remedying(name, why, cores string, a app, more ...string) remedied {
	c := conf(append(more, "spark.kubernetes.executor.label."+lab.RemedyLabel, "enabled")...)
	c[recoveryMode] = "false"
	maps.Copy(c, a.conf)
	a.conf = c
	return remedied{story: story{name: name, why: why, app: a, versions: lab.Versions}, cores: cores}
}

const recoveryMode = "spark.kubernetes.allocation.recoveryMode.enabled"

func (s remedied) inCI() remedied              { s.ci = newest; return s }
func (s remedied) on(v ...string) remedied     { s.versions = v; return s }
func (s remedied) killed() remedied            { s.group, s.host = true, true; return s }
func (s remedied) saying(text string) remedied { s.says = text; return s }
func (s remedied) failing() remedied           { s.fails = true; return s }
func (s remedied) in(object string) remedied   { s.namespace = object; return s }
func (s remedied) harmless() remedied          { s.healthy = true; return s }
func (s remedied) with(prepare func(*testing.T)) remedied {
	s.prepare = prepare
	return s
}
func (s remedied) meanwhile(during func(*testing.T, *run)) remedied {
	s.during = during
	return s
}
func (s remedied) leaving(text string) remedied { s.left = text; return s }
func (s remedied) recovering() remedied {
	delete(s.app.conf, recoveryMode)
	return s
}
func (s remedied) raising() remedied {
	s.app.conf["spark.kubernetes.executor.label."+lab.RemedyLabel] = "memory"
	return s
}

var (
	// manyRows fills the heap if three tasks run at a time, and not if one does.
	manyRows = app{file: "memory.py", args: []string{"rows", "6", "18000000"}}
	// manyWorkers are over the limit if two run at a time, and not if one does.
	manyWorkers = app{file: "memory.py", args: []string{"workers", "380"}}
	// largeTask does not fit into the heap.
	largeTask = app{file: "memory.py", args: []string{"rows", "2", "40000000"}}
)

var remedyStories = []remedied{
	remedying("remedy-heap", "three tasks at a time fill the heap", "1", manyRows, "spark.executor.cores", "3").inCI(),
	remedying("remedy-python", "two Python workers at a time are over the limit; the whole container is killed", "1", manyWorkers, "spark.executor.cores", "2").killed(),
	remedying("remedy-large-task", "one task needs more than the heap holds, and memory may be raised", "1", largeTask, "spark.executor.cores", "1").raising(),
	remedying("remedy-jvm", "the JVM is over the limit, and memory may be raised", "1",
		app{file: "memory.py", args: []string{"rows", "1", "20000000"}}, "spark.executor.cores", "1", "spark.executor.memoryOverhead", "16m").raising(),
	remedying("remedy-skew", "one Python worker of eight is large, and over the limit if another runs beside it; the whole container is killed", "1",
		app{file: "memory.py", args: []string{"skew", "8", "200", "480"}}, "spark.executor.cores", "2").killed(),
	remedying("remedy-together", "six executors die together", "1",
		app{file: "memory.py", args: []string{"rows", "18", "18000000"}}, "spark.executor.cores", "3", "spark.executor.instances", "6", "spark.task.maxFailures", "8", // else a task fails four times on those that die
		"spark.scheduler.minRegisteredResourcesRatio", "1.0", "spark.scheduler.maxRegisteredResourcesWaitingTime", "300s"),
	remedying("remedy-dynamic", "executors of dynamic allocation", "1", manyRows, "spark.executor.cores", "3",
		"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true", "spark.dynamicAllocation.maxExecutors", "2"),
	remedying("remedy-healthy", "nothing dies: executors are as Spark asked", "", app{file: "pi", args: []string{"4"}}, "spark.executor.cores", "2").harmless(),
	remedying("remedy-task-cpus", "a large task takes all five cores, so one runs at a time already", "", largeTask,
		"spark.executor.cores", "5", "spark.task.cpus", "5").saying("an executor already runs one task at a time").failing(),
	remedying("remedy-recovery", "Spark's own recovery mode is not set, so Spark acts after the first death", "", manyRows,
		"spark.executor.cores", "3").recovering().saying("Spark's own recovery mode").on(newest),
	remedying("remedy-audit", "in audit the stamps say what would be done, and nothing changes", "", manyRows,
		"spark.executor.cores", "3", "spark.kubernetes.executor.annotation."+annotations.RemedyMode, "audit").saying(`"mode":"audit"`).failing().on(oldest),
	remedying("remedy-off", "the driver's annotation turns it off", "", manyRows,
		"spark.executor.cores", "3", "spark.kubernetes.driver.annotation."+annotations.RemedyMode, "disabled").failing().on(oldest),
	remedying("remedy-quota", "a quota refuses executors with more memory: it is withdrawn", "", largeTask, "spark.executor.cores", "1").
		in("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {limits.memory: 2000Mi}}}").raising().saying("fewer executors than before ran for 30 seconds").failing(),
	remedying("remedy-limitrange", "a LimitRange refuses executors with more memory", "", largeTask, "spark.executor.cores", "1").
		in("{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Container, max: {memory: 1420Mi}}]}}").raising().saying("fewer executors than before ran for 30 seconds").failing().on(oldest),
	remedying("remedy-statefulset", "a StatefulSet makes all executors alike", "", manyRows,
		"spark.executor.cores", "3", "spark.kubernetes.allocation.pods.allocator", "statefulset").
		leaving("a StatefulSet or Deployment makes all executors alike").failing().on(oldest),
	remedying("remedy-off-heap", "two tasks at a time hold native memory", "1",
		app{class: "e2e.Hold", args: []string{"tasks", "380", "4"}}, "spark.executor.cores", "2", "spark.executor.extraClassPath", "/opt/classes"),
	remedying("remedy-decommission", "an executor is decommissioned while others die", "1", manyRows, "spark.executor.cores", "3", "spark.executor.instances", "2",
		"spark.decommission.enabled", "true", "spark.storage.decommission.enabled", "true", "spark.task.maxFailures", "8").meanwhile(decommission), // else two that die together fail a task four times on 4.1.4
	remedying("remedy-profiles", "two Python workers of the second resource profile are over the limit; the whole container is killed", "1",
		app{file: "memory.py", args: []string{"profiles", "380"}}, "spark.executor.cores", "2",
		"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true", "spark.dynamicAllocation.maxExecutors", "2",
	).killed().saying(`"profile":"1"`).with(smallProfiles),
	remedying("remedy-barrier", "the first attempt of a barrier stage is over the limit; its two tasks need an executor with two cores; the whole container is killed", "",
		app{file: "memory.py", args: []string{"barrier", "380"}}, "spark.executor.cores", "2").killed().saying("a job has a barrier stage").harmless(),
	remedying("remedy-refused", "a policy refuses executors with more memory", "", largeTask, "spark.executor.cores", "1").
		with(refusesMemory).raising().saying("fewer executors than before ran for 30 seconds").failing().on(oldest), // 4.3.0 gives up before
	remedying("remedy-small-node", "the node has no room for a larger request", "1", largeTask, "spark.executor.cores", "1").
		with(fullNode).raising(),
	remedying("remedy-forged", "users write a plan: with the driver, and later", "", app{file: "pi", args: []string{"40"}}, "spark.executor.cores", "2",
		"spark.kubernetes.driver.annotation."+annotations.Remedy, forgedPlan("spark-1")).harmless().meanwhile(forge).on(oldest),
	remedying("remedy-no-recorder", "the recorder is away", "", manyRows, "spark.executor.cores", "3").with(noRecorder).failing().on(oldest),
	remedying("remedy-no-watch", "the webhook may not watch drivers", "", manyRows, "spark.executor.cores", "3").with(noWatch).leaving("drivers").failing().on(oldest),
}

func TestRemedies(t *testing.T) {
	for _, s := range remedyStories {
		s.run(t, func(t *testing.T, version string) {
			if s.group {
				killWhole(t)
			}
			if s.prepare != nil {
				s.prepare(t)
			}
			var runs []*run
			for _, with := range []bool{true, false} {
				r := prepare(t, s.name, version, s.app, with)
				if s.namespace != "" {
					if err := theLab.Kubectl(t.Context(), []byte(s.namespace), "-n", r.Namespace, "apply", "-f", "-"); err != nil {
						t.Fatal(err)
					}
				}
				if err := theLab.Submit(t.Context(), r.App); err != nil {
					t.Fatal(err)
				}
				runs = append(runs, r)
			}
			if s.during != nil {
				s.during(t, runs[0])
			}
			for _, r := range runs {
				r.untilDriverEnds(t)
			}
			s.check(t, runs[0])
			if got := runs[1].outcome().result; (got == succeeded) != s.healthy && !s.mayHelpItself() {
				t.Errorf("without a remedy it is %s, so the story shows something else", got)
			}
			for _, r := range runs {
				theTable.add(t, s.name, r, r.executorsSeen())
			}
		})
	}
}

const succeeded = "Succeeded 0"

// mayHelpItself reports whether Spark itself acts on the deaths.
func (s remedied) mayHelpItself() bool { return s.app.conf[recoveryMode] == "" }

// check checks the result, the executors and the driver's message.
func (s remedied) check(t *testing.T, r *run) {
	t.Helper()
	if got := r.outcome().result; (got == succeeded) == s.fails && !s.mayHelpItself() {
		t.Errorf("it is %s", got)
	}
	driver := r.driverPod(t)
	plans := driver.Annotations[annotations.Remedy]
	t.Log(driver.Annotations[annotations.Message], plans)
	if !strings.Contains(plans, s.says) {
		t.Errorf("the record does not say %q", s.says)
	}
	last := ""
	r.Look(func(h *lab.History) {
		for _, pod := range h.Pods(spark.Executor) {
			if changed, cores := s.checkExecutor(t, pod); changed {
				last = cores
			}
		}
	})
	if last != s.cores {
		t.Errorf("the last executors have %q cores, want %q", last, s.cores)
	}
}

// checkExecutor checks that an executor has what its stamp says, or else what Spark asked
// for. It returns whether it was changed, and its cores.
func (s remedied) checkExecutor(t *testing.T, pod *lab.PodHistory) (changed bool, cores string) {
	t.Helper()
	executor, err := spark.PodOf(pod.Last)
	if err != nil {
		t.Fatal(err)
	}
	cores = strconv.Itoa(executor.Cores())
	if ended := pod.Terminated(); ended != nil {
		t.Logf("%s: created %s, %s cores, ended %s with %d", pod.Last.Name, pod.Last.CreationTimestamp.UTC().Format(time.TimeOnly), cores, ended.FinishedAt.UTC().Format(time.TimeOnly), ended.ExitCode)
	}
	stamp := annotations.ReadRemedyStamp(pod.Last.Annotations[annotations.Remedied])
	changed = stamp != (annotations.RemedyStamp{}) && stamp.Mode == ""
	right := cores == s.app.conf["spark.executor.cores"] || s.mayHelpItself()
	if changed && stamp.ToCores > 0 {
		right = executor.Cores() == stamp.ToCores
	}
	limit, request := executor.Memory().Limit>>20, executor.Container().Resources.Requests.Memory().Value()>>20
	asked := limit // as Spark asked
	if changed && stamp.Memory != nil {
		right, asked = right && limit == stamp.Memory.ToLimitMiB, stamp.Memory.FromLimitMiB
	}
	if !right || request != asked {
		t.Errorf("%s has %s cores, and %d MiB of which it asks for %d; its stamp is %+v", pod.Last.Name, cores, limit, request, stamp)
	}
	if plans := s.says; changed && strings.Contains(plans, `"profile":"1"`) && executor.ResourceProfile() == "0" {
		t.Errorf("%s is of another resource profile, and changed: %+v", pod.Last.Name, stamp)
	}
	if text := pod.Last.Annotations[annotations.Injected]; !strings.Contains(text, s.left) {
		t.Errorf("%s: its stamp %s does not say %q", pod.Last.Name, text, s.left)
	}
	return changed, cores
}

// executorsSeen says how many executors were lost, and how many were changed.
func (r *run) executorsSeen() string {
	lost, changed, raised, all := 0, 0, 0, 0
	r.Look(func(h *lab.History) {
		for _, pod := range h.Pods(spark.Executor) {
			all++
			if ended := pod.Terminated(); ended != nil && (ended.ExitCode == 52 || ended.Reason == "OOMKilled") || pod.Last.Status.Phase == corev1.PodFailed && ended == nil {
				lost++
			}
			switch stamp := annotations.ReadRemedyStamp(pod.Last.Annotations[annotations.Remedied]); {
			case stamp.Mode != "":
			case stamp.Memory != nil:
				raised++
			case stamp.ToCores > 0:
				changed++
			}
		}
	})
	text := fmt.Sprintf("%d of %d executors died of memory", lost, all)
	if changed > 0 {
		text += fmt.Sprintf(", %d got fewer cores", changed)
	}
	if raised > 0 {
		text += fmt.Sprintf(", %d got more memory", raised)
	}
	return text
}
