package driverui

import (
	"fmt"
	"net/http"
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
	barrier = graph + "label=&quot;Stage 1\\n(barrier mode)&quot;; 5 [label=&quot;PythonRDD [5] [Barrier]&quot;]"
)

// A barrier stage is found in a job that runs, and in one of the last that ended.
func TestHasBarrier(t *testing.T) {
	many := "[" + strings.Repeat(`{"jobId": 1, "status": "SUCCEEDED"},`, 20) + `{"jobId": 40, "status": "RUNNING", "stageIds": [1, 2]}]`
	for name, c := range map[string]struct {
		jobs  string
		pages map[string]string
		want  bool
		asked string
	}{
		"none":                    {`[{"jobId": 0, "status": "RUNNING"}]`, map[string]string{"0": plain}, false, "[0]"},
		"runs":                    {`[{"jobId": 0, "status": "RUNNING"}]`, map[string]string{"0": barrier}, true, "[0]"},
		"has ended":               {`[{"jobId": 1, "status": "RUNNING"}, {"jobId": 0, "status": "SUCCEEDED"}]`, map[string]string{"0": barrier, "1": plain}, true, "[1 0]"},
		"the one that runs first": {`[{"jobId": 2, "status": "FAILED"}, {"jobId": 1, "status": "RUNNING"}, {"jobId": 0, "status": "RUNNING"}]`, map[string]string{"1": plain, "0": barrier}, true, "[1 0]"},
		"a few of many":           {many, map[string]string{"40": plain, "1": plain}, false, "[40 1 1 1 1 1 1 1]"},
		"no job":                  {`[]`, nil, false, "[]"},
		"in two parts":            {`[{"jobId": 0, "status": "RUNNING"}]`, map[string]string{"0": plain + strings.Repeat("x", maxToken-len(plain)-4) + "[Barrier]"}, true, "[0]"},
	} {
		ui, asked := jobsUI(t, c.jobs, c.pages)
		if got, err := serve(t, ui).HasBarrier(t.Context(), driver(t)); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if got := fmt.Sprint(*asked); got != c.asked {
			t.Errorf("%s: asked for the jobs %s, want %s", name, got, c.asked)
		}
	}
}

// A page that is none of a job does not say that there is no barrier stage.
func TestHasBarrierUnknown(t *testing.T) {
	const one = `[{"jobId": 0, "status": "RUNNING"}]`
	for name, c := range map[string]struct{ jobs, page string }{
		"a login":     {one, "<html>Who are you?</html>"},
		"no jobs":     {`{"error": 1}`, plain},
		"a long page": {one, graph + strings.Repeat("x", maxAnswer)},
	} {
		ui, _ := jobsUI(t, c.jobs, map[string]string{"0": c.page})
		if got, err := serve(t, ui).HasBarrier(t.Context(), driver(t)); got || err == nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
