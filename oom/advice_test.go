package oom_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var (
	mainClasses = []struct{ language, class string }{
		{"JVM", "com.acme.Main"}, {"Python", "org.apache.spark.deploy.PythonRunner"}, {"R", "org.apache.spark.deploy.RRunner"},
		{"Connect", "org.apache.spark.sql.connect.service.SparkConnectServer"}, {"Kyuubi engine", "org.apache.kyuubi.engine.spark.SparkSQLEngine"},
	}
	submitters = []struct{ name, label, value string }{
		{name: "spark-submit"},
		{"Kyuubi", "kyuubi-unique-tag", "0f3c"},
		{"Livy", "spark-app-tag", "livy-session-0-abcd1234"},
		{"kubeflow", "sparkoperator.k8s.io/app-name", "pi"},
		{"apache operator", "spark.operator/spark-app-name", "pi"},
	}
	// what is known of the memory of Spark's container
	memories = []struct {
		what   string
		change func(*oom.Termination)
	}{
		{"exact heap", func(*oom.Termination) {}},
		{"estimated heap", func(t *oom.Termination) { t.Estimated = true }},
		{"unknown heap", func(t *oom.Termination) { t.HeapMiB = 0 }},
		{"no limit", func(t *oom.Termination) { t.LimitMiB, t.HeapMiB = 0, 0 }},
		{"more beside the heap than in it", func(t *oom.Termination) { t.LimitMiB = 26 << 10 }},
		{"limit reached as well", func(t *oom.Termination) { t.LimitReached = true }},
		{"the JVM's words", func(t *oom.Termination) { t.Said = "java.lang.OutOfMemoryError: Java heap space" }},
		{"Spark's default overhead", func(t *oom.Termination) { t.LimitMiB = 4096 + 409 }},
		{"limit by others", func(t *oom.Termination) { t.RequestMiB = 4505; t.Estimated = t.Role == spark.Driver }},
		{"limit by others, kubeflow", func(t *oom.Termination) { t.RequestMiB = 4505 }},
		{"pod made by hand", func(t *oom.Termination) { t.LimitByOthers, t.HeapMiB = t.Role == spark.Driver, 0 }},
		{"local files on a claim", func(t *oom.Termination) { t.LocalDirsOnClaim = true }},
		{"probed", func(t *oom.Termination) { t.Probed = true }},
		{"heap fills the limit", func(t *oom.Termination) { t.HeapMiB = t.LimitMiB }},
		{"local files in memory", func(t *oom.Termination) { t.LocalDirsInMemory = true }},
		{"off-heap memory", func(t *oom.Termination) { t.LimitMiB, t.HeapMiB = 40960, 8192 }},
		{"broadcast", func(t *oom.Termination) {
			t.Said = "java.lang.OutOfMemoryError: Not enough memory to build and broadcast the table to all worker nodes. As a workaround, you can either disable broadcast by setting spark.sql.autoBroadcastJoinThreshold to -1"
		}},
		{"startup probe of ours", func(t *oom.Termination) {
			t.ProbeFailure = &oom.ProbeFailure{Probe: "startup", Injected: true, PeriodSeconds: 10, FailureThreshold: 60}
		}},
		{"liveness probe of the user", func(t *oom.Termination) {
			t.ProbeFailure = &oom.ProbeFailure{Probe: "liveness", PeriodSeconds: 10, FailureThreshold: 3}
		}},
		{"one core", func(t *oom.Termination) { t.Cores = 1 }},
		{"a JVM that ends itself", func(t *oom.Termination) { t.OnOutOfMemory = "-XX:OnOutOfMemoryError" }},
		{"resource profile", func(t *oom.Termination) { t.Profile = "2" }},
	}
)

// Each file of testdata/advice has all messages about a cause: each message once, after
// the cases that have it. The cases vary the first case in one dimension each.
func TestAdvice(t *testing.T) {
	for _, cause := range oom.EveryCause() {
		var got sentences
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			if role == spark.Executor && (cause == oom.Disrupted || cause == oom.Failed) {
				continue
			}
			for _, language := range mainClasses {
				got.add(t, cause, role, language.class, "3.5.9", 0, 0, fmt.Sprintf("%s, %s", role, language.language))
			}
			for i := range submitters[1:] {
				got.add(t, cause, role, mainClasses[0].class, "3.5.9", i+1, 0, fmt.Sprintf("%s, %s", role, submitters[i+1].name))
			}
			for _, version := range []string{"3.3.4", "4.0.2", "4.1.4", "4.3.0"} {
				got.add(t, cause, role, mainClasses[0].class, version, 0, 0, fmt.Sprintf("%s, Spark %s", role, version))
			}
			for i := range memories[1:] {
				got.add(t, cause, role, mainClasses[0].class, "3.5.9", 0, i+1, fmt.Sprintf("%s, %s", role, memories[i+1].what))
			}
		}
		golden.Holds(t, filepath.Join("testdata", "advice", strings.ToLower(string(cause))+".txt"), got.String())
	}
}

// sentences are messages in the order of their first case, each with its cases.
type sentences struct {
	order []string
	cases map[string][]string
}

func (s *sentences) add(t *testing.T, cause oom.Cause, role spark.Role, class, version string, submitter, memory int, name string) {
	t.Helper()
	driver := capturedPod(t, "spark-3.5.9/driver")
	driver.Labels[spark.VersionLabel] = version
	switch {
	case strings.HasSuffix(name, "limit by others, kubeflow"):
		submitter = 3
	case strings.HasSuffix(name, "Kyuubi engine"):
		submitter = 1
	}
	driver.Labels[cmp.Or(submitters[submitter].label, "none")] = submitters[submitter].value
	args := driver.Container().Args
	args[4] = class
	if driver.MainClass() != class {
		t.Fatalf("--class is not at 4 in %v", args)
	}
	text := advice(cause, role, memories[memory].change, driver)
	if s.cases == nil {
		s.cases = map[string][]string{}
	}
	if s.cases[text] == nil {
		s.order = append(s.order, text)
	}
	s.cases[text] = append(s.cases[text], name)
}

func advice(cause oom.Cause, role spark.Role, change func(*oom.Termination), driver spark.Pod) string {
	code := map[oom.Cause]int32{oom.Killed: 137, oom.OOMKilled: 137, oom.HeapOOM: 52, oom.Failed: 11, oom.Crashed: 134}[cause]
	termination := oom.Termination{
		Set: "executors", Number: 7, Role: role, Pod: "etl-exec-7", Cause: cause, ExitCode: &code, At: metav1.NewTime(time.Unix(1795250000, 0)),
		LimitMiB: 5734, HeapMiB: 4096, Cores: 4,
	}
	if cause == oom.JavaOOM {
		termination.Said = "java.lang.OutOfMemoryError: Metaspace"
	}
	if role == spark.Driver {
		termination.Set, termination.Number, termination.Pod, termination.Cores = "driver", 0, "etl-driver", 0
		if cause == oom.HeapOOM { // which a driver's exit code does not tell
			termination.Said = "java.lang.OutOfMemoryError: Java heap space"
		}
	}
	change(&termination)
	var record oom.Record
	record.SawExecutor(20)
	record.Add(termination)
	for n := range int64(2) {
		if other := termination; role == spark.Executor {
			other.Number = n + 1
			record.Add(other)
		}
	}
	return record.Explain(&termination, driver)
}

func (s *sentences) String() string {
	var out strings.Builder
	for _, text := range s.order {
		fmt.Fprintf(&out, "%s:\n  %s\n", strings.Join(s.cases[text], "; "), text)
	}
	return out.String()
}
