package driverui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/spark"
)

// maxRunning is how many running jobs of an application are looked at for barrier stages,
// and lastEnded how many of those that ended last. A page takes 50 ms, and the first one of
// a driver 0.4 s. A driver makes the page of a job with 500 stages in 2 s, and needs 50 to
// 90 MiB of heap for it (3.5.9), so it is not asked for one with more than maxStages.
const maxRunning, lastEnded, maxStages = 16, 2, 200

var errManyJobs = fmt.Errorf("more than %d jobs run, or one has more than %d stages", maxRunning, maxStages)

// HasBarrier reports whether a stage of an application needs all of its tasks to run at
// the same time (RDD.barrier). It looks at the jobs that run, all of their stages included,
// and at the last that ended. It is an error if that is not known of one that runs. REST
// does not say it, but the page of a job does (RDDOperationGraph.scala).
func (c *Client) HasBarrier(ctx context.Context, driver spark.Pod) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout) // in all
	defer cancel()
	var running, ended []int64
	err := c.ask(ctx, driver, "/jobs", maxToken, func(d *jsontext.Decoder) (err error) {
		running, ended, err = readJobs(d)
		return err
	})
	for i, id := range slices.Concat(running, ended) {
		if err != nil {
			break
		}
		has := false
		page := url.URL{Path: "/jobs/job/", RawQuery: "id=" + strconv.FormatInt(id, 10)}
		err = c.get(ctx, driver, page, "text/html", func(from io.Reader) (err error) {
			has, err = showsBarrier(from)
			return err
		})
		if has {
			return true, nil
		}
		if i >= len(running) && errors.Is(err, errNoGraph) {
			err = nil // Spark forgets the stages of old jobs
		}
	}
	return false, err
}

// readJobs returns the jobs that run, and those that ended last, if they have not too many
// stages.
func readJobs(d *jsontext.Decoder) (running, ended []int64, err error) {
	many := false
	err = each(d, func() error {
		id, status, stages := int64(-1), "", 0
		err := fields(d, func(name string) error {
			switch name {
			case "jobId":
				return value(d, &id)
			case "status":
				return value(d, &status)
			case "stageIds":
				return each(d, func() error { stages++; return d.SkipValue() })
			}
			return d.SkipValue()
		})
		switch runs := status == "RUNNING"; {
		case id < 0:
		case runs && (len(running) == maxRunning || stages > maxStages):
			many = true
		case runs:
			running = append(running, id)
		case stages <= maxStages:
			ended = append(ended, id)
			slices.SortFunc(ended, func(a, b int64) int { return cmp.Compare(b, a) })
			ended = ended[:min(len(ended), lastEnded)]
		}
		return err
	})
	if err == nil && many {
		err = errManyJobs
	}
	return running, ended, err
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
