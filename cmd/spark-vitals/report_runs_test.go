package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

var midnight = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// jobOf is a SparkJob with runs, one a night, the last one this midnight.
func jobOf(t *testing.T, namespace, name string, runs ...sparkjob.Run) *unstructured.Unstructured {
	t.Helper()
	var status sparkjob.Status
	for i, r := range runs {
		r.Driver, r.UID, r.Version = name, types.UID(name+string(rune('a'+i))), "3.5.9"
		r.Began = metav1.NewTime(midnight.Add(-24 * time.Hour * time.Duration(len(runs)-1-i)))
		r.Ended, r.Measured = &metav1.Time{Time: r.Began.Add(time.Hour)}, &metav1.Time{Time: r.Began.Add(58 * time.Minute)}
		status.Add(r, sparkjob.DefaultRuns)
	}
	text, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	o.SetGroupVersionKind(sparkjob.Resource.GroupVersion().WithKind(sparkjob.Kind))
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// good is a run whose executors took so much of 16 GiB.
func good(heap int64) sparkjob.Run {
	r := sparkjob.Run{State: sparkjob.Succeeded}
	r.Settings.Executor = sparkjob.Settings{LimitMiB: 16384, HeapMiB: 12288, OverheadMiB: 4096, Cores: 4}
	r.Peaks.Executor = sparkjob.Peaks{HeapMiB: heap, JVMMiB: heap + 700, PythonMiB: 2000}.WithSums()
	return r
}

func bad() sparkjob.Run {
	r := good(11000)
	r.State, r.Reason, r.Message, r.LostExecutorSeconds = sparkjob.Failed, "DriverFailed", "Set spark.executor.memoryOverhead=6144m.", 9*3600
	r.Settings.Executor.Cores = 8
	r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.OOMKilled, Count: 4}}
	return r
}

// lossy is a good run in which an executor died of something else than memory.
func lossy() sparkjob.Run {
	r := good(9000)
	r.LostExecutorSeconds = 3600
	return r
}

func cluster(t *testing.T) dynamic.Interface {
	t.Helper()
	return fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{sparkjob.Resource: "SparkJobList"},
		jobOf(t, "sales", "nightly", good(9000), bad(), bad()),
		jobOf(t, "sales", "hourly", good(2500), good(2400), good(2300), good(2500), good(2500)),
		jobOf(t, "team", "nightly", lossy()),
	)
}

// The job that lost most comes first, with what changed; the one that takes too much is
// told what it could do without.
func TestReportRuns(t *testing.T) {
	found, err := jobsIn(t.Context(), cluster(t), "", runsAsked{}, midnight)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printJobs(&out, found); err != nil {
		t.Fatal(err)
	}
	want := `JOB            RUNS  BAD  LOST EXECUTOR HOURS  LAST       REASON        BEGAN
sales/nightly  3     2    18.0                 FAILED     DriverFailed  2026-11-30T00:00:00Z
team/nightly   1     0    1.0                  SUCCEEDED  -             2026-11-30T00:00:00Z
sales/hourly   5     0    0.0                  SUCCEEDED  -             2026-11-30T00:00:00Z

sales/nightly
  executors: OOMKilled, 8 times
  Set spark.executor.memoryOverhead=6144m.
  The last good run began 2026-11-28T00:00:00Z, the first bad one 2026-11-29T00:00:00Z.
  Since then changed: spark.executor.cores 8, was 4
  Since then changed: the heap of executors (peak) 11000 MiB, was 9000 MiB
  Since then changed: the JVM of executors (peak) 11700 MiB, was 9700 MiB

sales/hourly
  In 5 good runs, measured until 120 s before their end, the executor took at most 5200 of 16384 MiB. It could do with 8576: set spark.executor.memory=5g and spark.executor.memoryOverhead=3456m.
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

// A report can be of one namespace, of one job, and of some time.
func TestReportRunsAsked(t *testing.T) {
	for _, test := range []struct {
		namespace, job, since string
		want                  string
	}{
		{"", "nightly", "", "sales/nightly 3, team/nightly 1"},
		{"team", "", "", "team/nightly 1"},
		{"", "", "25h", "sales/nightly 2, team/nightly 1, sales/hourly 2"},
		{"sales", "nightly", "1d", "sales/nightly 2"},
		{"sales", "none", "", ""},
	} {
		asked := runsAsked{job: test.job}
		if test.since != "" {
			if err := asked.since.Set(test.since); err != nil {
				t.Fatal(err)
			}
		}
		found, err := jobsIn(t.Context(), cluster(t), test.namespace, asked, midnight)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, j := range found.Items {
			got = append(got, strings.Join([]string{j.Namespace + "/" + j.Job, string(rune('0' + j.Runs))}, " "))
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// What could be given back, and the last good run, are those of all runs, however few are
// asked for.
func TestReportRunsSinceKnowsAllRuns(t *testing.T) {
	full := good(11000)
	var runs []sparkjob.Run
	for i := range 7 {
		runs = append(runs, good(2500))
		if i == 0 {
			runs[0] = full
		}
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{sparkjob.Resource: "SparkJobList"},
		jobOf(t, "sales", "weekly", runs...), jobOf(t, "sales", "nightly", good(9000), bad(), bad()))
	asked := runsAsked{}
	if err := asked.since.Set("6d"); err != nil {
		t.Fatal(err)
	}
	found, err := jobsIn(t.Context(), client, "", asked, midnight.Add(time.Minute))
	if err != nil || len(found.Items) != 2 || found.Items[1].Runs != 6 || found.Items[1].GivesBack != nil {
		t.Errorf("%v: %+v", err, found)
	}
	asked = runsAsked{job: "nightly"}
	if err := asked.since.Set("1h"); err != nil {
		t.Fatal(err)
	}
	found, err = jobsIn(t.Context(), client, "", asked, midnight)
	if err != nil || len(found.Items) != 1 || found.Items[0].Runs != 1 || found.Items[0].LastGood == nil {
		t.Errorf("%v: %+v", err, found)
	}
}

// Programs get the numbers, and the exit status says if a job's last run was bad.
func TestReportRunsForPrograms(t *testing.T) {
	var out strings.Builder
	if err := reportRuns(t.Context(), &out, cluster(t), "sales", runsAsked{job: "nightly"}, jobOutputs["json"]); err != errFound { //nolint:errorlint // never wrapped
		t.Errorf("it ends with %v", err)
	}
	var found foundJobs
	if err := json.Unmarshal([]byte(out.String()), &found); err != nil || len(found.Items) != 1 || found.Items[0].LostExecutorHours != 18 || len(found.Items[0].Changed) != 3 || found.Items[0].FirstBad.State != sparkjob.Failed {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := reportRuns(t.Context(), &out, cluster(t), "sales", runsAsked{job: "hourly"}, jobOutputs["table"]); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestSince(t *testing.T) {
	for text, want := range map[string]time.Duration{"14d": 14 * 24 * time.Hour, "36h": 36 * time.Hour, "1.5d": 36 * time.Hour, "0d": 0, "-1h": 0, "d": 0, "2w": 0} {
		var s since
		if err := s.Set(text); (err == nil) != (want > 0) || err == nil && s.Duration != want {
			t.Errorf("%s: %s, %v", text, s.Duration, err)
		}
	}
}

// Reports over runs ask a cluster.
func TestReportRunsNeedsACluster(t *testing.T) {
	var out, errOut strings.Builder
	if status := run([]string{"report", "--since", "14d", "-f", "-"}, strings.NewReader(""), &out, &errOut); status != exitError || !strings.Contains(errOut.String(), "--since and --job ask the cluster") {
		t.Errorf("%d: %s", status, errOut.String())
	}
}
