package driverui

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// jobsUI is a UI with jobs, each with the page that it has.
func jobsUI(t *testing.T, jobs string, pages map[string]string) (ui http.HandlerFunc, asked *[]string) {
	asked = new([]string)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/applications/spark-1/jobs" {
			_, _ = fmt.Fprint(w, jobs)
			return
		}
		if r.URL.Path != "/jobs/job/" {
			t.Errorf("asked for %s", r.URL)
		}
		*asked = append(*asked, r.URL.Query().Get("id"))
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		_, _ = fmt.Fprint(w, pages[r.URL.Query().Get("id")])
	}, asked
}

// The marks are those of the pages of 3.5.9, 4.1.4 and 4.3.0. A story on real Spark holds
// them.
const (
	head    = "<html>\n"
	graph   = head + `<div id="dag-viz-metadata" style="display:none">`
	plain   = graph + "label=&quot;Stage 0&quot;; 4 [label=&quot;MapPartitionsRDD [4]&quot;]"
	noGraph = head + "<div>No DAG visualization information to display for job 7</div>"
	barrier = graph + "label=&quot;Stage 1\\n(barrier mode)&quot;; 5 [label=&quot;PythonRDD [5] [Barrier]&quot;]"
)

// running returns so many running jobs.
func running(n int) string {
	return "[" + strings.Repeat(`{"jobId": 7, "status": "RUNNING", "stageIds": [1, 2]},`, n-1) + `{"jobId": 7, "status": "RUNNING"}]`
}

// A barrier stage is found in a job that runs, and in one of the last that ended.
func TestHasBarrier(t *testing.T) {
	for name, c := range map[string]struct {
		jobs  string
		pages map[string]string
		want  bool
		asked string
	}{
		"none":                  {running(1), map[string]string{"7": plain}, false, "[7]"},
		"runs":                  {running(1), map[string]string{"7": barrier}, true, "[7]"},
		"has ended":             {`[{"jobId": 0, "status": "SUCCEEDED"}, {"jobId": 1, "status": "RUNNING"}]`, map[string]string{"0": barrier, "1": plain}, true, "[1 0]"},
		"runs beside others":    {`[{"jobId": 2, "status": "FAILED"}, {"jobId": 1, "status": "RUNNING"}, {"jobId": 0, "status": "RUNNING"}]`, map[string]string{"1": plain, "0": barrier}, true, "[1 0]"},
		"the last that ended":   {`[{"jobId": 1, "status": "SUCCEEDED"}, {"jobId": 3, "status": "FAILED"}, {"jobId": 2, "status": "SUCCEEDED"}]`, map[string]string{"2": plain, "3": plain}, false, "[3 2]"},
		"one without its graph": {`[{"jobId": 1, "status": "SUCCEEDED"}, {"jobId": 0, "status": "SUCCEEDED"}]`, map[string]string{"1": noGraph, "0": barrier}, true, "[1 0]"},
		"as many as are asked":  {running(maxRunning), map[string]string{"7": plain}, false, fmt.Sprint(slices.Repeat([]int{7}, maxRunning))},
		"no job":                {`[]`, nil, false, "[]"},
		"in two parts":          {running(1), map[string]string{"7": plain + strings.Repeat("x", maxToken-len(plain)-4) + "[Barrier]"}, true, "[7]"},
	} {
		ui, asked := jobsUI(t, c.jobs, c.pages)
		if got, err := serve(t, ui).Barrier(t.Context(), driver(t), nil); got.Seen != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if got := fmt.Sprint(*asked); got != c.asked {
			t.Errorf("%s: asked for the jobs %s, want %s", name, got, c.asked)
		}
	}
}

// A page that is none of a job does not say that there is no barrier stage.
func TestHasBarrierUnknown(t *testing.T) {
	for name, c := range map[string]struct{ jobs, page string }{
		"a login":                  {running(1), "<html>Who are you?</html>"},
		"no graph of a job":        {running(1), noGraph},
		"more jobs than looked at": {running(maxRunning + 1), plain},
		"a job with many stages":   {`[{"jobId": 7, "status": "RUNNING", "stageIds": [` + strings.Repeat("1,", maxStages) + `1]}]`, plain},
		"no jobs":                  {`{"error": 1}`, plain},
		"a long page":              {running(1), graph + strings.Repeat("x", maxAnswer)},
	} {
		ui, _ := jobsUI(t, c.jobs, map[string]string{"7": c.page})
		if got, err := serve(t, ui).Barrier(t.Context(), driver(t), nil); got.Seen || err == nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// The page of a job is asked for once, unless a later job has its number.
func TestBarrierOnce(t *testing.T) {
	const first, later = `{"jobId": 0, "status": "SUCCEEDED", "submissionTime": "1"}, {"jobId": 1, "status": "RUNNING"}`, `{"jobId": 0, "status": "RUNNING", "submissionTime": "2"}`
	pages := map[string]string{"0": plain, "1": plain, "2": barrier}
	var without []Job
	for _, c := range []struct{ jobs, asked string }{{first, "[1 0]"}, {first, "[]"}, {later, "[0]"}, {first + `, {"jobId": 2, "status": "RUNNING"}`, "[2]"}} {
		ui, asked := jobsUI(t, "["+c.jobs+"]", pages)
		got, err := serve(t, ui).Barrier(t.Context(), driver(t), without)
		if err != nil || fmt.Sprint(*asked) != c.asked || got.Seen != (c.asked == "[2]") {
			t.Errorf("%s: asked for %v; %+v, %v", c.jobs, *asked, got, err)
		}
		if without == nil || c.jobs == first {
			without = got.Without
		}
	}
}
