package stories

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// harmless is a story of an application that spark-vitals must not touch: with
// and without it the result is the same, no executor is lost, nothing is
// restarted or ended, and it takes as long.
type harmless struct {
	name string
	why  string
	app  app
	// exit is the driver's exit code, log a line that its log has in the end.
	exit int32
	log  string
	// alone: with and without one after the other, because they would meet.
	alone bool
	// during is done to each while it runs.
	during func(*testing.T, *run)
	// fails: without spark-vitals the application may fail.
	fails bool
	// versions, where not all; quick stories run in CI.
	versions []string
	quick    bool
}

func conf(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// fast adds what makes the liveness probe run fast; see package lab.
func fast(c map[string]string) map[string]string {
	c = maps.Clone(c)
	if c == nil {
		c = map[string]string{}
	}
	maps.Copy(c, lab.Fast)
	return c
}

func filter(class string) map[string]string {
	return conf("spark.driver.extraClassPath", "/opt/filters", "spark.ui.filters", "e2e."+class)
}

var harmlessStories = []harmless{
	{
		name: "pi", why: "the first application that anybody runs", quick: true,
		app: app{file: "pi", args: []string{"4"}, conf: conf("spark.executor.instances", "2")}, log: "Pi is roughly",
	},
	{
		name: "dynamic-allocation", why: "executors come and go, with shuffles between them",
		app: app{file: "shuffle.py", args: []string{"2", "12"}, conf: conf(
			"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true",
			"spark.dynamicAllocation.minExecutors", "1", "spark.dynamicAllocation.maxExecutors", "3", "spark.dynamicAllocation.executorIdleTimeout", "5s",
			"spark.dynamicAllocation.shuffleTracking.timeout", "5s")}, log: "ROUND 1 100",
	},
	{
		name: "decommission", why: "executors are asked to leave, by a preStop hook and a signal",
		app: app{file: "shuffle.py", args: []string{"2", "12"}, conf: conf(
			"spark.decommission.enabled", "true", "spark.storage.decommission.enabled", "true", "spark.storage.decommission.shuffleBlocks.enabled", "true",
			"spark.dynamicAllocation.enabled", "true", "spark.dynamicAllocation.shuffleTracking.enabled", "true",
			"spark.dynamicAllocation.minExecutors", "1", "spark.dynamicAllocation.maxExecutors", "2", "spark.dynamicAllocation.executorIdleTimeout", "5s",
			"spark.dynamicAllocation.shuffleTracking.timeout", "5s")}, log: "ROUND 1 100",
	},
	{
		name: "statefulset-allocator", why: "executors of a StatefulSet, which restarts containers and reads readiness",
		app: app{file: "shuffle.py", args: []string{"1", "0"}, conf: conf("spark.kubernetes.allocation.pods.allocator", "statefulset", "spark.executor.instances", "2")}, log: "ROUND 0 100",
	},
	{
		name: "late-context", why: "user code works before it makes its SparkContext", quick: true,
		app: app{file: "phases.py", args: []string{"60", "5", "0"}, conf: fast(nil)}, log: "PHASE end",
	},
	{
		name: "no-context", why: "an application that never makes one",
		app: app{file: "phases.py", args: []string{"40", "-1", "5"}, conf: fast(nil)}, log: "PHASE end",
	},
	{
		name: "no-ui", why: "spark.ui.enabled=false: the port is declared, and nobody listens", quick: true,
		app: app{file: "long.py", args: []string{"40"}, conf: fast(conf("spark.ui.enabled", "false"))}, log: "JOBS True",
	},
	{
		name: "after-stop", why: "the driver goes on after spark.stop()",
		app: app{file: "phases.py", args: []string{"0", "5", "40"}, conf: fast(nil)}, log: "PHASE end",
	},
	{
		name: "ui-login", why: "a filter of the UI that lets nobody in",
		app: app{file: "long.py", args: []string{"40"}, conf: fast(filter("Deny"))}, log: "JOBS True",
	},
	{
		name: "ui-blocked", why: "a filter of the UI that never answers: its directory server is away", quick: true,
		app: app{file: "long.py", args: []string{"40"}, conf: fast(filter("Block"))}, log: "JOBS True",
	},
	{
		name: "ui-port", why: "the UI on another port",
		app: app{file: "long.py", args: []string{"30"}, conf: fast(conf("spark.ui.port", "4055"))}, log: "JOBS True",
	},
	{
		name: "ui-port-0", why: "the UI on any port; before 4.3 Spark itself makes an invalid pod of it", versions: []string{"4.3.0"},
		app: app{file: "long.py", args: []string{"30"}, conf: fast(conf("spark.ui.port", "0"))}, log: "JOBS True",
	},
	{
		name: "garbage", why: "a driver that does little but collect garbage",
		app: app{file: "memory.py", args: []string{"gc", "60"}, conf: fast(nil)}, log: "GC True",
	},
	{
		name: "heap-dump", why: "a driver that writes a heap dump",
		app: app{file: "memory.py", args: []string{"dump"}, conf: fast(nil)}, log: "DUMPED",
	},
	{
		name: "frozen-a-minute", why: "a driver frozen for a minute, then going on; the real clock",
		app: app{file: "long.py", args: []string{"110"}}, log: "JOBS True",
		during: func(t *testing.T, r *run) {
			r.untilLog(t, "CONTEXT")
			freeze(t, r.driverPod())
			time.Sleep(time.Minute) // the story itself
			thaw(t, r.driverPod())
		},
	},
	{
		name: "unready-driver", why: "the user's own readiness probe keeps the driver unready while executors start; without spark-vitals they find no driver",
		app: app{file: "pi", args: []string{"4"}, driver: `
spec:
  containers:
  - name: spark-kubernetes-driver
    readinessProbe: {exec: {command: [cat, /never]}, initialDelaySeconds: 5, periodSeconds: 5}
`}, log: "Pi is roughly", fails: true, quick: true, versions: []string{"3.5.9", "4.1.4"},
	},
	{
		name: "sidecar", why: "a template with a sidecar in front, a container name and probes of the user's own",
		app: app{file: "pi", args: []string{"4"}, conf: conf(
			"spark.kubernetes.driver.podTemplateContainerName", "main", "spark.kubernetes.executor.podTemplateContainerName", "main"),
			driver: sidecarTemplate, executor: sidecarTemplate}, log: "Pi is roughly",
	},
	{
		name: "broadcast", why: "an application that catches an oversized broadcast join",
		app: app{file: "memory.py", args: []string{"broadcast"}, conf: conf("spark.driver.memory", "480m", "spark.sql.autoBroadcastJoinThreshold", "-1")}, log: "GOES ON 1000",
	},
	{
		name: "exit-3", why: "sys.exit(3), which is also what the JVM says of an exhausted heap",
		app: app{file: "memory.py", args: []string{"exit", "3"}}, exit: 3, log: "CONTEXT",
	},
	{
		name: "no-bash", why: "an image without bash",
		app: app{file: "long.py", args: []string{"30"}, variant: image.NoBash, conf: fast(nil)}, log: "JOBS True",
	},
	{
		name: "own-java-options", why: "an image with its own ENV JDK_JAVA_OPTIONS, and user options beside our switch",
		app: app{file: "long.py", args: []string{"10"}, variant: image.JavaOptions, conf: conf(
			"spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError", "true",
			"spark.kubernetes.driverEnv.JDK_JAVA_OPTIONS", "-De2e.user=own")}, log: "JOBS True",
	},
	{
		name: "host-network", why: "ports that may be another pod's", alone: true,
		app: app{file: "pi", args: []string{"4"}, driver: hostNetwork, executor: hostNetwork}, log: "Pi is roughly",
	},
}

const sidecarTemplate = `
spec:
  initContainers:
  - {name: sidecar, image: ` + "localhost/e2e/pause:1" + `, restartPolicy: Always}
  containers:
  - name: other
    image: localhost/e2e/spark:3.5.9
    command: [sleep, "40"]
  - name: main
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 2}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 5}
`

const hostNetwork = `
spec: {hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}
`

func TestHarmless(t *testing.T) {
	for _, s := range harmlessStories {
		if !s.quick && !*allStories {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, version := range s.onVersions() {
				t.Run(version, func(t *testing.T) { s.tell(t, version) })
			}
		})
	}
}

// The versions that stories run on: the oldest and the newest.
var versions = []string{"3.5.9", "4.3.0"}

func (s harmless) onVersions() []string {
	all := s.versions
	if all == nil {
		all = versions
	}
	if !*allStories {
		all = all[len(all)-1:]
	}
	return all
}

func (s harmless) tell(t *testing.T, version string) {
	var runs []*run
	if s.alone {
		for _, with := range []bool{true, false} {
			r := submit(t, s.name, version, s.app, with)
			s.follow(t, r)
			runs = append(runs, r)
		}
	} else {
		with, without := both(t, s.name, version, s.app)
		runs = []*run{with, without}
		var wait sync.WaitGroup
		for _, r := range runs {
			wait.Go(func() { s.follow(t, r) })
		}
		wait.Wait()
	}
	defer func() {
		for _, r := range runs {
			theTable.add(t, s.name, r, "")
		}
	}()
	if !t.Failed() {
		s.compare(t, runs[0], runs[1])
	}
}

func (s harmless) follow(t *testing.T, r *run) {
	if s.during != nil {
		s.during(t, r)
	}
	r.untilDriverEnds(t)
}

func (s harmless) compare(t *testing.T, with, without *run) {
	a, b := with.outcome(), without.outcome()
	if ended := with.driverEnd(); ended == nil || ended.ExitCode != s.exit {
		t.Errorf("with spark-vitals the driver ended with %s, want exit code %d", a.result, s.exit)
	}
	if !s.fails && a.result != b.result {
		t.Errorf("with spark-vitals %s, without %s", a.result, b.result)
	}
	if log := with.log(t); !strings.Contains(log, s.log) {
		t.Errorf("with spark-vitals the driver's log has no line %q", s.log)
	}
	if len(a.lost) > 0 {
		t.Errorf("with spark-vitals executors were lost: %q (without: %q)", a.lost, b.lost)
	}
	if len(a.restarted) > len(b.restarted) {
		t.Errorf("with spark-vitals containers were restarted: %q", a.restarted)
	}
	if !s.fails && a.length > b.length*3/2+20*time.Second {
		t.Errorf("with spark-vitals it took %s, without %s", a.length, b.length)
	}
	if killed := with.killed(); killed {
		t.Error("the kubelet ended the driver")
	}
	if !injected(with) {
		t.Error("nothing was injected, so nothing was tried")
	}
}

// injected tells whether every pod of the run bears our stamp.
func injected(r *run) (all bool) {
	all = true
	r.Look(func(h *lab.History) {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			all = all && !slices.ContainsFunc(h.Pods(role), func(p *lab.PodHistory) bool {
				return p.Last.Annotations["spark-vitals.io/injected"] == ""
			})
		}
	})
	return all
}
