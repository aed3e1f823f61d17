package driverui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/spark"
)

// maxJobs is how many jobs of an application are looked at for barrier stages. A page
// takes 50 ms, and the first one of a driver 0.4 s.
const maxJobs = 8

// HasBarrier reports whether a stage of an application needs all of its tasks to run at
// the same time (RDD.barrier). It looks at the jobs that run, all of their stages included,
// and at those that ended last. REST does not say it, but the page of a job does
// (RDDOperationGraph.scala).
func (c *Client) HasBarrier(ctx context.Context, driver spark.Pod) (bool, error) {
	var jobs []job
	err := c.ask(ctx, driver, "/jobs", maxToken, func(d *jsontext.Decoder) (err error) {
		jobs, err = readJobs(d)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		has, err := false, error(nil)
		page := url.URL{Path: "/jobs/job/", RawQuery: "id=" + strconv.FormatInt(j.id, 10)}
		err = c.get(ctx, driver, page, "text/html", func(from io.Reader) (err error) {
			has, err = showsBarrier(from)
			return err
		})
		if has || err != nil {
			return has, err
		}
	}
	return false, nil
}

type job struct {
	id   int64
	runs bool
}

// readJobs returns the jobs to look at, those that run first, the newest of them first.
func readJobs(d *jsontext.Decoder) (jobs []job, err error) {
	err = each(d, func() error {
		j := job{id: -1}
		err := fields(d, func(name string) error {
			switch name {
			case "jobId":
				return value(d, &j.id)
			case "status":
				var status string
				err := value(d, &status)
				j.runs = status == "RUNNING"
				return err
			}
			return d.SkipValue()
		})
		if j.id >= 0 {
			jobs = append(jobs, j)
		}
		slices.SortFunc(jobs, newerFirst)
		jobs = jobs[:min(len(jobs), maxJobs)]
		return err
	})
	return jobs, err
}

func newerFirst(a, b job) int {
	if a.runs != b.runs {
		if a.runs {
			return -1
		}
		return 1
	}
	return cmp.Compare(b.id, a.id)
}

var (
	graphMark   = []byte(`id="dag-viz-metadata"`)
	barrierMark = []byte("[Barrier]")

	errNoGraph = errors.New("it shows no graph of stages")
)

// showsBarrier reads the page of a job to its end, and reports whether its graph has a
// barrier stage. A page without a graph is an error.
func showsBarrier(page io.Reader) (barrier bool, err error) {
	buffer, kept, graph := make([]byte, maxToken), 0, false
	for left := maxAnswer; left > 0; {
		n, err := page.Read(buffer[kept:])
		seen := buffer[:kept+n]
		graph = graph || bytes.Contains(seen, graphMark)
		barrier = barrier || bytes.Contains(seen, barrierMark)
		switch {
		case errors.Is(err, io.EOF) && !graph:
			return false, errNoGraph
		case errors.Is(err, io.EOF):
			return barrier, nil
		case err != nil:
			return false, err
		}
		kept = copy(buffer, seen[max(0, len(seen)-len(graphMark)):]) // a mark may come in two parts
		left -= n
	}
	return false, errLong
}
