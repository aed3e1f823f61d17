package stories

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// hang is a story of an application that hangs. Without spark-vitals it looks healthy
// as long as it runs.
type hang struct {
	story
	// hangs lets the application hang and returns when.
	hangs func(*testing.T, *run) time.Time
	// found waits until spark-vitals has found it, and says how. nil: nothing
	// finds it, and nothing ends it.
	found func(*testing.T, *run, time.Time) string
	// control checks what became of the run without spark-vitals, and says it.
	control func(*testing.T, *run) string
}

// shortGrace is short because a frozen process cannot use a grace period.
const shortGrace = `
spec: {terminationGracePeriodSeconds: 3}
`

var hangStories = []hang{
	{
		story: story{
			name: "hung-driver", why: "the driver freezes while it works", ci: newest, host: true,
			app: app{file: "long.py", args: []string{"600"}, conf: fast(nil), driver: shortGrace},
		},
		hangs: func(t *testing.T, r *run) time.Time {
			r.untilLog(t, "CONTEXT")
			if r.with {
				r.untilHealthy(t)
			}
			return freeze(t, r.driverPod(t))
		},
		found: livenessKill, control: looksHealthy,
	},
	{
		story: story{
			name: "hung-driver-starting", why: "the driver freezes after its RPC port opens, before its executors run", host: true,
			app: app{file: "long.py", args: []string{"600"}, conf: fast(nil), driver: shortGrace},
		},
		hangs: func(t *testing.T, r *run) time.Time {
			r.untilListening(t, 4040)
			return freeze(t, r.driverPod(t))
		},
		found: livenessKill, control: looksHealthy,
	},
	{
		story: story{
			name: "hung-driver-before", why: "the driver freezes before its RPC port opens: user code may be at work, so it is only not Ready", host: true,
			app: app{file: "phases.py", args: []string{"600", "5", "0"}, conf: fast(nil), driver: shortGrace},
		},
		hangs: func(t *testing.T, r *run) time.Time {
			r.untilLog(t, "PHASE before")
			return freeze(t, r.driverPod(t))
		},
		found: func(t *testing.T, r *run, since time.Time) string {
			aMinute(t, r, since)
			if ended := r.driverEnd(); ended != nil {
				t.Fatalf("a driver that may be at work before its start was ended: %d", ended.ExitCode)
			}
			if r.ready() {
				t.Error("a driver that hangs before its start is Ready")
			}
			return "not Ready; never ended"
		},
		control: looksHealthy,
	},
	{
		story: story{
			name: "hung-ui", why: "all threads of the UI wait in a filter while the JVM lives: its log gets a thread dump", versions: lab.Versions,
			app: app{class: "e2e.Hang", args: []string{"ui"}, conf: fast(filter("Block")), driver: shortGrace},
		},
		hangs: untilHangs, found: livenessDump, control: looksHealthy,
	},
	{
		story: story{
			name: "hung-ui-xrs", why: "the same with -Xrs: a JVM that would die of the signal is not sent it",
			app: app{class: "e2e.Hang", args: []string{"ui"}, driver: shortGrace, conf: fast(conf("spark.driver.extraJavaOptions", "-Xrs",
				"spark.driver.extraClassPath", "/opt/classes", "spark.ui.filters", "e2e.Block"))},
		},
		hangs: untilHangs, found: livenessXrs, control: looksHealthy,
	},
	{
		story: story{
			name: "zombie-driver", why: "the driver continues with an exhausted heap: its UI answers again, and no probe finds it",
			app: app{file: "memory.py", args: []string{"zombie", "600"}, driver: shortGrace},
		},
		hangs: filled,
		found: func(t *testing.T, r *run, since time.Time) string {
			aMinute(t, r, since)
			if r.driverEnd() != nil {
				t.Errorf("the driver has ended: %s", r.outcome().result)
			}
			return fmt.Sprintf("no probe finds it; its UI answers a minute later: %t", r.answers(t))
		},
		control: looksHealthy,
	},
	{
		story: story{
			name: "zombie-driver-exit", why: "the same with exitOnOutOfMemoryError",
			app: app{file: "memory.py", args: []string{"zombie", "600"}, driver: shortGrace,
				conf: conf("spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError", "true")},
		},
		hangs: func(t *testing.T, r *run) time.Time {
			if !r.with {
				return filled(t, r)
			}
			r.untilLog(t, "CONTEXT")
			return time.Now()
		},
		found: func(t *testing.T, r *run, since time.Time) string {
			r.untilDriverEnds(t)
			ended := r.driverEnd()
			if ended.ExitCode != 3 || !strings.Contains(ended.Message, "Terminating due to java.lang.OutOfMemoryError") {
				t.Errorf("the driver ended with exit code %d and the message %q", ended.ExitCode, ended.Message)
			}
			return fmt.Sprintf("the JVM ends itself %s after its context", seconds(ended.FinishedAt.Sub(since)))
		},
		control: looksHealthy,
	},
	{
		story: story{
			name: "hung-executor", why: "an executor freezes; Spark's heartbeat finds it, here after 20 s, by default after 120 s", host: true,
			app: app{file: "long.py", args: []string{"90"}, executor: shortGrace, conf: conf(
				"spark.executor.heartbeatInterval", "4s", "spark.network.timeout", "20s", "spark.network.timeoutInterval", "5s")},
		},
		hangs: func(t *testing.T, r *run) time.Time {
			r.untilLog(t, "CONTEXT")
			return freezeFirstExecutor(t, r)
		},
		found:   func(t *testing.T, r *run, _ time.Time) string { return replacedBySpark(t, r) },
		control: replacedBySpark,
	},
	{
		story: story{
			name: "unregistered-executor", why: "an executor that never registers, with the rule set strict", host: true,
			app: app{file: "long.py", args: []string{"5"}, executor: shortGrace, conf: conf(
				"spark.kubernetes.executor.label."+lab.FastLabel, "true")},
		},
		hangs: freezeFirstExecutor,
		found: func(t *testing.T, r *run, _ time.Time) string {
			started, killed := r.untilKilling(t, spark.Executor)
			r.untilDriverEnds(t)
			if result := r.outcome().result; result != "Succeeded 0" {
				t.Errorf("the driver ended as %s: the executor was not replaced", result)
			}
			// The kubelet counts from the start, in whole seconds.
			within(t, killed.Sub(started), lab.FastStart-1, lab.FastPeriod, lab.FastThreshold, 0, 0)
			r.failedTimes(t, spark.Executor, "Startup", lab.FastThreshold)
			return fmt.Sprintf("the startup probe ends it after %s; Spark replaces it", seconds(killed.Sub(started)))
		},
		control: looksHealthy,
	},
}

func TestHangs(t *testing.T) {
	for _, s := range hangStories {
		s.run(t, func(t *testing.T, version string) {
			with, without := both(t, s.name, version, s.app)
			var seen [2]string
			var wait sync.WaitGroup
			wait.Go(func() { seen[0] = s.found(t, with, s.hangs(t, with)) })
			wait.Go(func() {
				since := s.hangs(t, without)
				if !t.Failed() {
					aMinute(t, without, since)
					seen[1] = s.control(t, without)
				}
			})
			wait.Wait()
			theTable.add(t, s.name, with, seen[0])
			theTable.add(t, s.name, without, seen[1])
		})
	}
}

// livenessKill waits until the kubelet has ended a frozen driver, and compares the time
// with the numbers of the rule. A frozen JVM is not asked for a thread dump.
func livenessKill(t *testing.T, r *run, since time.Time) string {
	t.Helper()
	return ended(t, r, since, 137, 0)
}

// livenessDump is about a driver whose JVM lives. It does not end within its grace
// period, because Spark waits 30 s for the UI's threads. Of three failures in a row one
// asks for a thread dump.
func livenessDump(t *testing.T, r *run, since time.Time) string {
	t.Helper()
	found := ended(t, r, since, 137, 1)
	log := r.log(t)
	for _, words := range []string{"e2e.Block.doFilter", "heap", "Metaspace       used"} {
		if !strings.Contains(log, words) {
			t.Errorf("the thread dump has no %q", words)
		}
	}
	r.Look(func(h *lab.History) {
		for _, e := range h.Events(h.Driver().Last)["Unhealthy"] {
			if strings.Contains(e.Message, "asked for a thread dump") {
				return
			}
		}
		t.Error("no Event names the thread dump")
	})
	return found + ", with a thread dump"
}

// livenessXrs is about a JVM that catches no signal, so it dies of the first one. That
// is the kubelet's.
func livenessXrs(t *testing.T, r *run, since time.Time) string {
	t.Helper()
	return ended(t, r, since, 143, 0)
}

func ended(t *testing.T, r *run, since time.Time, exit int32, dumps int) string {
	t.Helper()
	_, killed := r.untilKilling(t, spark.Driver)
	r.untilDriverEnds(t)
	if ended := r.driverEnd(); ended == nil || ended.ExitCode != exit {
		t.Errorf("the driver ended with %+v, want exit code %d", ended, exit)
	}
	if n := strings.Count(r.log(t), threadDump); n != dumps {
		t.Errorf("its log has %d thread dumps, want %d", n, dumps)
	}
	// The program says that it hangs only when it has waited for its UI.
	within(t, killed.Sub(since), -lab.FastPeriod-lab.FastLimit, lab.FastPeriod, lab.FastThreshold, lab.FastLimit, lab.FastTimeout)
	r.failedTimes(t, spark.Driver, "Liveness", lab.FastThreshold)
	return "the liveness probe ends it after " + seconds(killed.Sub(since))
}

// threadDump is how HotSpot begins its answer to SIGQUIT.
const threadDump = "Full thread dump "

// untilKilling waits until the kubelet ends the first pod of a role. It returns when
// Spark's container had started and when the kubelet reported the end.
func (r *run) untilKilling(t *testing.T, role spark.Role) (started, killed time.Time) {
	t.Helper()
	r.until(t, "the kubelet ends the "+string(role), func(h *lab.History) bool {
		pod := h.Pods(role)[0]
		started = pod.Started()
		if killing := h.Killing(pod); len(killing) > 0 {
			killed = killing[0].First
		}
		return !killed.IsZero()
	})
	return started, killed
}

// failedTimes compares how often a probe of the first pod of a role failed since it
// hung with the threshold.
func (r *run) failedTimes(t *testing.T, role spark.Role, probe string, threshold int) {
	t.Helper()
	r.Look(func(h *lab.History) {
		pod := h.Pods(role)[0]
		failures, lost := h.Unhealthy(pod, probe)-r.failed, h.Warnings(pod.Last) >= lab.EventBudget
		if failures > threshold || failures < threshold && !lost {
			t.Errorf("the %s probe failed %d times, want %d", probe, failures, threshold)
		}
	})
}

// within compares a time of detection with the numbers of the probe: the first failing
// check begins at most a period after the hang, and the last one ends by its own limit,
// or at the latest by its timeout. A slow machine adds delay to each check. A delay of
// the rule itself shows in the number of failures.
func within(t *testing.T, after time.Duration, delay, period, threshold, limit, timeout int) {
	t.Helper()
	earliest := time.Duration(delay+(threshold-1)*period+limit) * time.Second
	latest := time.Duration(delay+threshold*period+timeout) * time.Second
	if after < earliest-time.Second || after > latest+time.Minute { // a check may have been under way
		t.Errorf("found after %s; by its rule it takes %s to %s, and up to a minute more on a machine that stalls", seconds(after), seconds(earliest), seconds(latest))
	}
}

// looksHealthy is the control: the application hangs and its pod is Running and Ready.
func looksHealthy(t *testing.T, r *run) string {
	if ended := r.driverEnd(); ended != nil {
		t.Errorf("without spark-vitals the driver ended with exit code %d", ended.ExitCode)
	}
	if !r.ready() {
		t.Error("without spark-vitals the driver is not Ready")
	}
	return "Ready a minute later"
}

func filled(t *testing.T, r *run) time.Time {
	r.untilLog(t, "FILLED")
	return time.Now()
}

// freezeFirstExecutor hangs the first executor once it has a process, before it can
// register.
func freezeFirstExecutor(t *testing.T, r *run) time.Time { return freeze(t, r.firstExecutor(t)) }

func replacedBySpark(t *testing.T, r *run) string {
	r.untilDriverEnds(t)
	if result := r.outcome().result; result != "Succeeded 0" {
		t.Errorf("the driver ended as %s", result)
	}
	executors := 0
	r.Look(func(h *lab.History) { executors = len(h.Pods(spark.Executor)) })
	if executors < 2 {
		t.Error("the frozen executor was not replaced")
	}
	return "no probe finds it; Spark replaces it"
}

// aMinute waits for a minute in which nothing is to happen to a hanging run, or until
// its driver ends.
func aMinute(t *testing.T, r *run, since time.Time) {
	t.Helper()
	for time.Since(since) < time.Minute && r.driverEnd() == nil {
		time.Sleep(time.Second)
	}
}

func seconds(d time.Duration) string { return d.Round(time.Second).String() }

// answers reports whether the UI answers within 10 s to the request of the liveness
// probe.
func (r *run) answers(t *testing.T) bool {
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(r.driverPod(t).Status.PodIP, "4040"), 10*time.Second)
	if err != nil {
		return false
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = fmt.Fprint(connection, "GET / HTTP/1.1\r\n\r\n")
	if err == nil {
		_, err = bufio.NewReader(connection).ReadByte()
	}
	return err == nil
}
