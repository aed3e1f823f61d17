package sparkjob_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(minutes int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(minutes) * time.Minute))
}

func ptr(t metav1.Time) *metav1.Time { return &t }

// sightings are what recorders see of some runs: each run in several versions of its
// driver's pod, and each version several times, with other measurements.
func sightings(t *rapid.T) (all []sparkjob.Run) {
	for i := range rapid.IntRange(1, 6).Draw(t, "runs") {
		began := at(rapid.IntRange(0, 3).Draw(t, "began"))
		state := rapid.SampledFrom([]sparkjob.State{sparkjob.Succeeded, sparkjob.Killed, sparkjob.Failed, sparkjob.Stopped}).Draw(t, "state")
		for version := range rapid.IntRange(1, 3).Draw(t, "versions") {
			r := sparkjob.Run{Driver: fmt.Sprint("driver-", i), UID: types.UID(fmt.Sprint("u-", i)), Application: "spark-1", Began: began, State: sparkjob.Running, ResourceVersion: strconv.Itoa(98 + version)}
			if version == 2 {
				r.State, r.Ended, r.Message = state, ptr(at(9)), "What to do."
				r.Deaths = []oom.Deaths{{Role: spark.Executor, Cause: oom.OOMKilled, Count: 1}}
			}
			for range rapid.IntRange(1, 2).Draw(t, "times") {
				r.LostExecutorSeconds = rapid.Int64Range(0, 9000).Draw(t, "lost")
				r.Peaks.Executor.HeapMiB = rapid.Int64Range(0, 900).Draw(t, "heap")
				r.Peaks.Driver.HeapMiB = rapid.Int64Range(0, 900).Draw(t, "driver's heap")
				r.NextRun.Executor = rapid.SampledFrom([]annotations.Mode{"", annotations.Audit, annotations.Enabled}).Draw(t, "next")
				all = append(all, r)
			}
		}
	}
	return all
}

// A job does not depend on the order in which its runs were seen, how often, and by whom.
func TestAddAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := sightings(t)
		var first, second sparkjob.Status
		for _, r := range seen {
			first.Add(r, 20)
		}
		again := append(append([]sparkjob.Run{}, seen...), seen...)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		r.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		for _, r := range again {
			second.Add(r, 20)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Error(diff)
		}
		for _, r := range seen {
			if second.Add(r, 20) {
				t.Errorf("a replay of %+v changes the job", r)
			}
		}
	})
}

// A run that is older than those that are kept does not come back.
func TestAddKeepsTheNewest(t *testing.T) {
	var s sparkjob.Status
	for i := range 30 {
		s.Add(run(i, sparkjob.Succeeded), 20)
	}
	if s.Known != 20 || len(s.Runs) != 20 || s.Runs[0].UID != "u-29" || s.Runs[19].UID != "u-10" {
		t.Fatalf("%d runs are kept", len(s.Runs))
	}
	if s.Add(run(3, sparkjob.Killed), 20) || s.Bad != 0 {
		t.Error("an old run came back")
	}
}

// Whatever strangers choose, a job stays small.
func TestAddIsBounded(t *testing.T) {
	var s sparkjob.Status
	for i := range 100 {
		r := run(i, sparkjob.Killed)
		r.Driver, r.Application, r.Message = strings.Repeat("d", 253), strings.Repeat("a", 63), strings.Repeat("m", 1024)
		for range 12 {
			r.Deaths = append(r.Deaths, oom.Deaths{Role: spark.Executor, Container: strings.Repeat("c", 63), Cause: oom.Killed, Count: 1})
		}
		s.Add(r, 100)
	}
	text, err := json.Marshal(s)
	if err != nil || len(text) > sparkjob.MaxBytes || len(s.Runs) < 5 {
		t.Errorf("%d bytes, %d runs, %v", len(text), len(s.Runs), err)
	}
}

// What is later known of a run replaces what was known, and a driver that came back runs.
func TestAddCorrects(t *testing.T) {
	r := run(1, sparkjob.Running)
	var s sparkjob.Status
	add := func(version string, state sparkjob.State, deaths ...oom.Deaths) sparkjob.Run {
		r.ResourceVersion, r.State, r.Deaths = version, state, deaths
		s.Add(r, 20)
		return s.Runs[0]
	}
	one := func(c oom.Cause) oom.Deaths { return oom.Deaths{Role: spark.Executor, Cause: c, Count: 1} }
	add("99", sparkjob.Running, one(oom.Killed))
	if got := add("101", sparkjob.Running, one(oom.OOMKilled)); got.Deaths[0].Cause != oom.OOMKilled || s.Deaths != 1 {
		t.Errorf("%+v, %d deaths", got, s.Deaths)
	}
	if got := add("100", sparkjob.Running); len(got.Deaths) != 1 {
		t.Errorf("an older version counts: %+v", got)
	}
	s.Lose(func(*sparkjob.Run) bool { return false }, 20)
	if s.Runs[0].State != sparkjob.Unknown {
		t.Errorf("%+v", s.Runs[0])
	}
	if got := add("101", sparkjob.Running, one(oom.OOMKilled)); got.State != sparkjob.Unknown {
		t.Errorf("what was known before counts: %+v", got)
	}
	if got := add("102", sparkjob.Succeeded); got.State != sparkjob.Succeeded {
		t.Errorf("%+v", got)
	}
}

// Only the newest run that has a message keeps it.
func TestAddMessages(t *testing.T) {
	var s sparkjob.Status
	for i, message := range []string{"one", "two", ""} {
		r := run(i, sparkjob.Killed)
		r.Message = message
		s.Add(r, 20)
	}
	if s.Runs[0].Message != "" || s.Runs[1].Message != "two" || s.Runs[2].Message != "" || !strings.HasPrefix(s.Advice, "two") {
		t.Errorf("%+v", s)
	}
}

// A run is the i-th.
func run(i int, state sparkjob.State) sparkjob.Run {
	r := sparkjob.Run{Driver: fmt.Sprint("driver-", i), UID: types.UID(fmt.Sprint("u-", i)), Application: "spark-1", Version: "3.5.9", Began: at(60 * i), State: state, ResourceVersion: strconv.Itoa(100 + i)}
	if state != sparkjob.Running {
		r.Ended = ptr(at(60*i + 30))
	}
	return r
}

// That a driver was asked again is no news while it runs.
func TestAskedAgainIsNoNews(t *testing.T) {
	for _, test := range []struct {
		state sparkjob.State
		want  bool
	}{{sparkjob.Running, false}, {sparkjob.Succeeded, true}} {
		r := run(0, test.state)
		s := status(r)
		r.Measured = ptr(at(25))
		if s.Add(r, 20) != test.want {
			t.Errorf("%s: %t", test.state, !test.want)
		}
	}
}
