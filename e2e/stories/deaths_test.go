package stories

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// death is a story of a container that is ended by a limit, and of what the driver's
// annotations say then.
type death struct {
	story
	role  spark.Role
	cause oom.Cause
	count int // of terminations at least
	// bring death to an application that does not bring it itself.
	bring func(*testing.T, *run)
	// group: the story is told once more, and the kernel then ends the whole container and
	// not one process; see [lab.KillWholeContainers].
	group bool
	whole bool // it is told in this way
}

func dying(name, why string, role spark.Role, cause oom.Cause, a app) death {
	return death{story: story{name: name, why: why, app: a}, role: role, cause: cause, count: 1}
}

func (d death) inCI() death                                  { d.ci = newest; return d }
func (d death) on(versions ...string) death                  { d.versions = versions; return d }
func (d death) times(n int) death                            { d.count = n; return d }
func (d death) orGroup() death                               { d.group = true; return d }
func (d death) broughtBy(bring func(*testing.T, *run)) death { d.host, d.bring = true, bring; return d }

// A task is tried once, so its first death suffices.
func once(pairs ...string) map[string]string {
	return conf(append(pairs, "spark.task.maxFailures", "1")...)
}

var deathStories = []death{
	dying("driver-oom", "the driver's Python process grows over the container's limit", spark.Driver, oom.OOMKilled,
		app{file: "memory.py", args: []string{"python", "2000"}}).inCI().orGroup(),
	dying("driver-child-oom", "a program that the driver's Python started grows over the container's limit", spark.Driver, oom.ChildOOMKilled,
		app{file: "memory.py", args: []string{"child", "2000"}}).orGroup().on(lab.Versions...),
	dying("driver-heap-oom", "the driver collects more than its heap holds; exitOnOutOfMemoryError makes the JVM say so", spark.Driver, oom.HeapOOM,
		app{file: "memory.py", args: []string{"zombie", "60"}, conf: conf("spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError", "true")}),
	dying("executor-oom", "the executor's JVM grows over the container's limit", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"rows", "1", "40000000"}, conf: once("spark.executor.memoryOverhead", "16m")}).orGroup(),
	// An executor whose pod is deleted, before it ends as its driver asks it to, exits with
	// 143. The kubelet's OOMKilled then proves nothing.
	dying("executor-python-oom", "a Python worker grows over the container's limit", spark.Executor, oom.ChildOOMKilled,
		app{file: "memory.py", args: []string{"workers", "2000"}, conf: once("spark.kubernetes.executor.deleteOnTermination", "false")}).orGroup(),
	dying("executor-heap-oom", "the executor's heap is exhausted, exit 52", spark.Executor, oom.HeapOOM,
		app{file: "memory.py", args: []string{"rows", "1", "90000000"}, conf: once()}),
	dying("executor-emptydir", "a volume grows over its sizeLimit", spark.Executor, oom.EvictedEmptyDir,
		app{file: "disk.py", args: []string{"/data/file", "60", "120"}, executor: `
spec:
  containers:
  - name: spark-kubernetes-executor
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {sizeLimit: 20Mi}}]
`, conf: once()}),
	dying("executor-disk", "an executor writes more than its ephemeral-storage limit", spark.Executor, oom.EvictedPodStorage,
		app{file: "disk.py", args: []string{"/tmp/file", "120", "120"}, executor: `
spec:
  containers:
  - name: spark-kubernetes-executor
    resources: {limits: {ephemeral-storage: 60Mi}}
`, conf: once()}),
	dying("liveness-kill", "a hung driver is ended by its liveness probe", spark.Driver, oom.Hung,
		app{file: "long.py", args: []string{"600"}, conf: fast(nil), driver: shortGrace}).broughtBy(func(t *testing.T, r *run) {
		r.untilLog(t, "CONTEXT")
		freeze(t, r.driverPod(t))
	}),
	dying("killed-and-deleted", "an executor is killed and its pod deleted at once", spark.Executor, oom.Killed,
		app{file: "long.py", args: []string{"60"}}).broughtBy(func(t *testing.T, r *run) {
		r.untilLog(t, "CONTEXT")
		pod := r.firstExecutor(t)
		if err := signalJVM(pod, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		r.until(t, "the kubelet reports it", func(h *lab.History) bool { return h.Pods(spark.Executor)[0].Terminated() != nil })
		if err := theLab.Kubectl(t.Context(), nil, "-n", r.Namespace, "delete", "pod", pod.Name, "--force", "--grace-period=0", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	}),
	dying("twenty-executors", "twenty executors die in one stage", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"rows", "20", "40000000"}, conf: conf(
			"spark.executor.instances", "20", "spark.executor.memoryOverhead", "16m", "spark.task.maxFailures", "100",
			"spark.scheduler.minRegisteredResourcesRatio", "1.0", "spark.scheduler.maxRegisteredResourcesWaitingTime", "300s",
			"spark.executor.maxNumFailures", "20", "spark.executor.heartbeatInterval", "30s")}).times(20).on(newest),
	dying("statefulset-oom", "an executor of a StatefulSet, whose container is restarted", spark.Executor, oom.OOMKilled,
		app{file: "memory.py", args: []string{"rows", "1", "40000000"}, conf: once(
			"spark.kubernetes.allocation.pods.allocator", "statefulset", "spark.executor.memoryOverhead", "16m")}).orGroup(),
}

// bothWays returns stories with those of them in which the whole container is killed.
func bothWays(stories []death) (all []death) {
	for _, d := range stories {
		all = append(all, d)
		if d.group {
			d.name, d.why, d.cause = d.name+"-group", d.why+"; the whole container is killed", oom.OOMKilled
			d.ci, d.host, d.whole = "", true, true
			all = append(all, d)
		}
	}
	return all
}

// killWhole has whole containers killed until the story ends.
func killWhole(t *testing.T) {
	ended := make(chan struct{})
	go func() { defer close(ended); lab.KillWholeContainers(t.Context()) }()
	t.Cleanup(func() { <-ended })
}

func TestDeaths(t *testing.T) {
	for _, d := range bothWays(deathStories) {
		d.run(t, func(t *testing.T, version string) {
			if d.whole {
				killWhole(t)
			}
			r := submit(t, d.name, version, d.app, true)
			waited := make(chan error, 1)
			if d.role == spark.Driver {
				go func() { waited <- r.waitForDeath(t.Context(), endsWithin) }()
			}
			if d.bring != nil {
				d.bring(t, r)
			}
			r.check(t, d, r.untilRecorded(t, d), "")
			if d.role == spark.Driver {
				if err := <-waited; err != nil {
					t.Errorf("who began to wait while the driver lived: %v", err)
				}
				r.checkCondition(t)
			}
		})
	}
}

// untilRecorded waits until the driver's annotations have the deaths.
func (r *run) untilRecorded(t *testing.T, d death) (record oom.Record) {
	t.Helper()
	var seen map[string]string
	defer func() {
		if t.Failed() {
			t.Logf("on the driver stands %q", seen)
		}
	}()
	r.until(t, fmt.Sprintf("%d %s of cause %s are recorded", d.count, d.role, d.cause), func(h *lab.History) bool {
		if driver := h.Driver(); driver != nil {
			seen = driver.Last.Annotations
			record, _ = oom.Read(seen)
		}
		return record.Count(d.role, d.cause) >= d.count
	})
	return record
}

// check checks the annotations, and adds a row with what was seen besides.
func (r *run) check(t *testing.T, d death, record oom.Record, seen string) {
	t.Helper()
	driver := r.driverPod(t)
	message, reason := driver.Annotations[annotations.Message], driver.Annotations[annotations.Reason]
	state := driver.Annotations[annotations.State]
	if d.role == spark.Driver && (state != string(oom.StateKilled) || reason != "Driver"+string(d.cause)) {
		t.Errorf("state %q, reason %q", state, reason)
	}
	if message == "" {
		t.Error("there is no message")
	}
	t.Log(message)
	r.untilEvent(t, string(d.cause))
	theTable.add(t, d.name, r, listed(d.summary(reason, record), seen))
}

// summary is the reason, with what it does not show.
func (d death) summary(reason string, record oom.Record) string {
	switch {
	case !strings.HasSuffix(reason, string(d.cause)):
		return fmt.Sprintf("%s; %s %s", reason, d.role, d.cause)
	case d.count > 1:
		return fmt.Sprintf("%s; %d of %d executors", reason, record.Count(d.role, d.cause), record.Executors)
	}
	return reason
}

// waitForDeath waits for the driver's death with the command of the pages.
func (r *run) waitForDeath(ctx context.Context, limit time.Duration) error {
	return theLab.Kubectl(ctx, nil, "-n", r.Namespace, "wait", "pod", "-l", "spark-role=driver", "--for=condition="+annotations.DeathCondition, "--timeout="+limit.String())
}

// checkCondition checks that the condition says what the annotations say, and that it
// stays beside what the kubelet writes last.
func (r *run) checkCondition(t *testing.T) {
	t.Helper()
	r.untilDriverEnds(t)
	kubelets := map[corev1.PodConditionType]corev1.ConditionStatus{
		corev1.PodScheduled: corev1.ConditionTrue, corev1.PodInitialized: corev1.ConditionTrue,
		corev1.PodReady: corev1.ConditionFalse, corev1.ContainersReady: corev1.ConditionFalse, corev1.PodReadyToStartContainers: corev1.ConditionFalse,
	}
	seen, own := map[corev1.PodConditionType]corev1.ConditionStatus{}, corev1.PodCondition{}
	defer func() {
		if t.Failed() {
			t.Logf("the kubelet's conditions are %v, ours is %+v", seen, own)
		}
	}()
	r.until(t, "the kubelet has said all of the pod", func(h *lab.History) bool {
		clear(seen)
		for _, c := range h.Driver().Last.Status.Conditions {
			if c.Type == annotations.DeathCondition {
				own = c
			} else {
				seen[c.Type] = c.Status
			}
		}
		return maps.Equal(seen, kubelets)
	})
	driver := r.driverPod(t)
	if driver.Status.Phase != corev1.PodFailed {
		t.Errorf("the phase is %s", driver.Status.Phase)
	}
	if i := slices.IndexFunc(driver.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == own.Type }); i < 0 {
		t.Error("the condition is gone")
	}
	if own.Status != corev1.ConditionTrue || own.Reason != driver.Annotations[annotations.Reason] || own.Message != driver.Annotations[annotations.Message] {
		t.Errorf("it says another thing than %s: %s", driver.Annotations[annotations.Reason], driver.Annotations[annotations.Message])
	}
	if err := r.waitForDeath(t.Context(), time.Minute); err != nil {
		t.Errorf("who waits afterwards: %v", err)
	}
}

// untilEvent waits for the recorder's Event about a cause.
func (r *run) untilEvent(t *testing.T, cause string) {
	t.Helper()
	eventually.Succeeds(t, "there is an Event of the death", func(context.Context) error {
		found := ours(t, r.Namespace)
		if !slices.ContainsFunc(found, func(e eventsv1.Event) bool { return strings.Contains(e.Reason, cause) }) {
			return fmt.Errorf("none of %d Events is about %s", len(found), cause)
		}
		return nil
	})
}

// firstExecutor waits for the first running executor.
func (r *run) firstExecutor(t *testing.T) (pod *corev1.Pod) {
	t.Helper()
	r.until(t, "an executor runs", func(h *lab.History) bool {
		if executors := h.Pods(spark.Executor); len(executors) > 0 && executors[0].Last.Status.Phase == corev1.PodRunning {
			pod = executors[0].Last.DeepCopy()
		}
		return pod != nil
	})
	return pod
}
