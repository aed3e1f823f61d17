package stories

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// unaffected is a story of an application that spark-vitals must not disturb: with and
// without it the result and the duration are the same, and no executor is lost,
// restarted or ended.
type unaffected struct {
	story
	// exit is the driver's exit code, log what its log has in the end.
	exit int32
	log  []string
	// alone: with and without one after the other, because they would meet.
	alone bool
	// during is done to each while it runs.
	during func(*testing.T, *run)
	// premise checks that what the story is about did happen.
	premise func(*testing.T, *run)
	// fails: without spark-vitals the application may fail.
	fails bool
}

func filter(class string) map[string]string {
	return conf("spark.driver.extraClassPath", "/opt/classes", "spark.ui.filters", "e2e."+class)
}

// plain returns a story with an application and the last line of its log.
func plain(name, why, log string, a app) unaffected {
	return unaffected{story: story{name: name, why: why, app: a}, log: []string{log}}
}

// long returns a story of an application that works for some seconds with the fast
// probe.
func long(name, why, seconds string, c map[string]string) unaffected {
	return plain(name, why, "JOBS True", app{file: "long.py", args: []string{seconds}, conf: fast(c)})
}

func (s unaffected) inCI(version string) unaffected               { s.ci = version; return s }
func (s unaffected) on(versions ...string) unaffected             { s.versions = versions; return s }
func (s unaffected) provided(p func(*testing.T, *run)) unaffected { s.premise = p; return s }
func (s unaffected) image(v image.Variant) unaffected             { s.app.variant = v; return s }
func (s unaffected) exits(code int32) unaffected                  { s.exit = code; return s }

var unaffectedStories = []unaffected{
	plain("pi", "the first application that anybody runs", "Pi is roughly",
		app{file: "pi", args: []string{"4"}, conf: conf("spark.executor.instances", "2")}).inCI(oldest),
	plain("dynamic-allocation", "executors come and go, with shuffles between them", "ROUND 1 100",
		app{file: "shuffle.py", args: []string{"2", "12"}, conf: conf(
			"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true",
			"spark.dynamicAllocation.minExecutors", "1", "spark.dynamicAllocation.maxExecutors", "3", "spark.dynamicAllocation.executorIdleTimeout", "5s",
			"spark.dynamicAllocation.shuffleTracking.timeout", "5s")}).provided(executorsCameAndWent),
	plain("decommission", "executors are asked to leave, by a preStop hook and a signal", "ROUND 1 100",
		app{file: "shuffle.py", args: []string{"2", "12"}, conf: conf(
			"spark.decommission.enabled", "true", "spark.storage.decommission.enabled", "true", "spark.storage.decommission.shuffleBlocks.enabled", "true",
			"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true",
			"spark.dynamicAllocation.minExecutors", "1", "spark.dynamicAllocation.maxExecutors", "2", "spark.dynamicAllocation.executorIdleTimeout", "5s",
			"spark.dynamicAllocation.shuffleTracking.timeout", "5s")}).provided(said("ecommission")),
	plain("statefulset-allocator", "executors of a StatefulSet, which restarts containers and reads readiness", "ROUND 0 100",
		app{file: "shuffle.py", args: []string{"1", "0"}, conf: conf(
			"spark.kubernetes.allocation.pods.allocator", "statefulset", "spark.executor.instances", "2")}),
	plain("late-context", "user code works before it makes its SparkContext", "PHASE end",
		app{file: "phases.py", args: []string{"60", "5", "0"}, conf: fast(nil)}),
	plain("no-context", "an application that never makes one", "PHASE end",
		app{file: "phases.py", args: []string{"40", "-1", "5"}, conf: fast(nil)}),
	plain("after-stop", "the driver continues after spark.stop()", "PHASE end",
		app{file: "phases.py", args: []string{"0", "5", "40"}, conf: fast(nil)}),
	long("no-ui", "spark.ui.enabled=false: the port is declared, and nobody listens", "40", conf("spark.ui.enabled", "false")),
	long("ui-login", "a filter of the UI that lets nobody in", "40", filter("Deny")),
	long("ui-blocked", "a filter of the UI that never answers: its directory server is away", "40", filter("Block")),
	long("ui-port", "the UI on another port", "30", conf("spark.ui.port", "4055")),
	plain("garbage", "a driver that does little but collect garbage", "GC True",
		app{file: "memory.py", args: []string{"gc", "60"}, conf: fast(nil)}),
	plain("heap-dump", "a driver that writes heap dumps, one after the other", "DUMPED",
		app{file: "memory.py", args: []string{"dump", "40"}, conf: fast(nil)}),
	{
		story: story{
			name: "frozen-a-minute", why: "a driver freezes for a minute; the default rule with its real numbers", host: true,
			app: app{file: "long.py", args: []string{"110"}},
		},
		log: []string{"JOBS True"},
		during: func(t *testing.T, r *run) {
			r.untilLog(t, "CONTEXT")
			freeze(t, r.driverPod(t))
			time.Sleep(time.Minute) // the story itself
			thaw(t, r.driverPod(t))
		},
	},
	{
		story: story{
			name: "unready-driver", why: "the user's own readiness probe keeps the driver unready while executors start; without spark-vitals they find no driver",
			app: app{file: "pi", args: []string{"4"}, driver: `
spec:
  containers:
  - name: spark-kubernetes-driver
    readinessProbe: {exec: {command: [cat, /never]}, initialDelaySeconds: 5, periodSeconds: 5}
`}, ci: oldest,
		},
		log: []string{"Pi is roughly"}, fails: true,
	},
	plain("unpatched-service", "the startup probe alone, where the driver's Service was not patched", "Pi is roughly",
		app{file: "pi", args: []string{"4"}, conf: conf("spark.executor.instances", "2",
			"spark.kubernetes.driver.service.annotation.spark-vitals.io/publishNotReadyAddresses", "false")}).on(oldest, "4.1.4"),
	plain("sidecar", "a template with a sidecar in front, a container name and probes of the user's own", "Pi is roughly",
		app{file: "pi", args: []string{"4"}, conf: conf(
			"spark.kubernetes.driver.podTemplateContainerName", "main", "spark.kubernetes.executor.podTemplateContainerName", "main"),
			driver: sidecarTemplate, executor: sidecarTemplate}),
	plain("broadcast", "an application that catches an oversized broadcast join", "GOES ON 1000",
		app{file: "memory.py", args: []string{"broadcast"}, conf: conf("spark.driver.memory", "480m", "spark.sql.autoBroadcastJoinThreshold", "-1")}).provided(said("CAUGHT")),
	plain("exit-3", "sys.exit(3), which is also the JVM's exit code for an exhausted heap", "CONTEXT",
		app{file: "memory.py", args: []string{"exit", "3"}}).exits(3),
	long("no-bash", "an image without bash", "30", nil).image(image.NoBash),
	plain("own-java-options", "an image with ENV JDK_JAVA_OPTIONS, and user options next to exitOnOutOfMemoryError", "JOBS True",
		app{file: "long.py", args: []string{"10"}, conf: conf(
			"spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError", "true",
			"spark.kubernetes.driverEnv.JDK_JAVA_OPTIONS", "-De2e.user=own")}).image(image.JavaOptions).provided(said("-De2e.user=own", "-XX:+ExitOnOutOfMemoryError")),
	{
		story: story{
			name: "host-network", why: "ports that may be another pod's",
			app: app{file: "pi", args: []string{"4"}, driver: hostNetwork, executor: hostNetwork, conf: conf(
				"spark.driver.blockManager.port", "7081")}, // both declare 7079, and there is one node
		},
		log: []string{"Pi is roughly"}, alone: true,
	},
	{
		story: story{
			name: unreachable, why: "the kubelet does not reach the executors' ports, as with security groups for pods", host: true,
			app: app{file: "long.py", args: []string{"45"}},
		},
		log: []string{"JOBS True"},
		during: func(t *testing.T, r *run) {
			if !r.with {
				return
			}
			cluster.Reachable(t.Context())
			if err := cluster.Unreachable(t.Context(), 20000, 29999); err != nil {
				t.Fatal(err)
			}
			defer cluster.Reachable(context.Background())
			r.untilDriverEnds(t)
			r.Look(func(h *lab.History) {
				for _, pod := range h.Pods(spark.Executor) {
					if pod.EverReady {
						t.Errorf("%s was Ready, so its port was reachable", pod.Last.Name)
					}
				}
			})
		},
	},
}

// said checks that the driver's log has all of these words.
func said(words ...string) func(*testing.T, *run) {
	return func(t *testing.T, r *run) {
		log := r.log(t)
		for _, word := range words {
			if !strings.Contains(log, word) {
				t.Errorf("%s: what the story is about did not happen: %q is not in the driver's log", r.Namespace, word)
			}
		}
	}
}

func executorsCameAndWent(t *testing.T, r *run) {
	r.Look(func(h *lab.History) {
		if n := len(h.Pods(spark.Executor)); n < 3 {
			t.Errorf("%s: there were only %d executors", r.Namespace, n)
		}
	})
}

const sidecarTemplate = `
spec:
  initContainers:
  - {name: sidecar, image: ` + cluster.PauseImage + `, restartPolicy: Always}
  containers:
  - name: other
    image: IMAGE
    command: [sleep, "40"]
  - name: main
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 2}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 5}
`

const hostNetwork = `
spec: {hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}
`

func TestUnaffected(t *testing.T) {
	for _, s := range unaffectedStories {
		s.run(t, func(t *testing.T, version string) { s.test(t, version) })
	}
}

func (s unaffected) test(t *testing.T, version string) {
	var with, without *run
	defer func() {
		for _, r := range []*run{with, without} {
			if r != nil {
				theTable.add(t, s.name, r, "")
			}
		}
	}()
	// A machine that stalls makes a run longer now and then; spark-vitals would
	// each time.
	for range 3 {
		with, without = s.try(t, version)
		if !t.Failed() {
			s.compare(t, with, without)
		}
		a, b := with.outcome().length, without.outcome().length
		if t.Failed() || s.fails || a <= b*5/4+15*time.Second {
			return
		}
		t.Logf("with spark-vitals it took %s, without %s", a, b)
	}
	t.Error("with spark-vitals it took longer each time")
}

// try runs the application with and without spark-vitals, to its end.
func (s unaffected) try(t *testing.T, version string) (with, without *run) {
	if s.alone {
		with = submit(t, s.name, version, s.app, true)
		s.follow(t, with)
		without = submit(t, s.name, version, s.app, false)
		s.follow(t, without)
		return with, without
	}
	with, without = both(t, s.name, version, s.app)
	var wait sync.WaitGroup
	for _, r := range []*run{with, without} {
		wait.Go(func() { s.follow(t, r) })
	}
	wait.Wait()
	return with, without
}

func (s unaffected) follow(t *testing.T, r *run) {
	if s.during != nil {
		s.during(t, r)
	}
	r.untilDriverEnds(t)
}

func (s unaffected) compare(t *testing.T, with, without *run) {
	a, b := with.outcome(), without.outcome()
	if ended := with.driverEnd(); ended == nil || ended.ExitCode != s.exit {
		t.Errorf("with spark-vitals the driver ended with %s, want exit code %d", a.result, s.exit)
	}
	if !s.fails && a.result != b.result {
		t.Errorf("with spark-vitals %s, without %s", a.result, b.result)
	}
	log := with.log(t)
	for _, line := range s.log {
		if !strings.Contains(log, line) {
			t.Errorf("with spark-vitals the driver's log has no line %q", line)
		}
	}
	if s.premise != nil {
		s.premise(t, with)
	}
	if lost := with.lost(log); len(lost) > 0 {
		t.Errorf("with spark-vitals executors were lost: %q (without: %q)", lost, without.lost(without.log(t)))
	}
	if len(a.restarted) > len(b.restarted) {
		t.Errorf("with spark-vitals containers were restarted: %q", a.restarted)
	}
	with.Look(func(h *lab.History) {
		if strings.Contains(log, threadDump) && h.Unhealthy(h.Driver(), "Liveness") < 2 {
			t.Error("a driver that answers was asked for a thread dump")
		}
	})
	if killed := with.killed(); killed {
		t.Error("the kubelet ended the driver")
	}
	with.checkReadiness(t, log, s.name == unreachable)
}

const unreachable = "unreachable-port"

// checkReadiness checks that executors were Ready once they had registered with their
// driver, if they ran long enough to be probed.
func (r *run) checkReadiness(t *testing.T, log string, never bool) {
	t.Helper()
	const stall = 15 // seconds that the machine may stand still
	r.Look(func(h *lab.History) {
		for _, p := range h.Pods(spark.Executor) {
			pod, err := spark.PodOf(p.Last)
			ended := p.Terminated()
			registered := logged(log, "Registered executor", " with ID "+p.Last.Labels[spark.ExecutorIDLabel]+",")
			if err != nil || pod.Container().ReadinessProbe == nil || ended == nil || registered.IsZero() {
				continue
			}
			probe, from := pod.Container().ReadinessProbe, registered
			if begun := ended.StartedAt.Add(time.Duration(probe.InitialDelaySeconds) * time.Second); begun.After(from) {
				from = begun
			}
			if ended.FinishedAt.Sub(from) < time.Duration(probe.PeriodSeconds+stall)*time.Second {
				continue
			}
			if p.EverReady == never {
				t.Errorf("%s: ready at any time: %t", p.Last.Name, p.EverReady)
			}
		}
	})
}
