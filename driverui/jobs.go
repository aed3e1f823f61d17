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

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/spark"
)

// maxRunning is how many running jobs of an application are looked at for barrier stages,
// and lastEnded how many of those that ended last. A page takes 50 ms, and the first one of
// a driver 0.4 s. A driver makes the page of a job with 500 stages in 2 s, and needs 50 to
// 90 MiB of heap for it (3.5.9), so it is not asked for one with more than maxStages.
const maxRunning, lastEnded, maxStages = 16, 2, 200

var errManyJobs = fmt.Errorf("more than %d jobs run, or one has more than %d stages", maxRunning, maxStages)

// Job is a job of an application. A program may begin to count anew, so the time counts
// too.
type Job struct {
	ID        int64
	Submitted string
}

// Barrier is what an application's jobs show.
type Barrier struct {
	// Seen: a stage needs all of its tasks to run at the same time (RDD.barrier).
	Seen bool
	// Without are the jobs that have no such stage. A job's stages are known when it
	// begins.
	Without []Job
}

// Barrier looks for barrier stages in the jobs of an application that run, all of their
// stages included, and in the last that ended, but not in those that are known. It is an
// error if it is not known whether one that runs has a barrier stage. REST does not say
// it, but the page of a job does (RDDOperationGraph.scala).
func (c *Client) Barrier(ctx context.Context, driver spark.Pod, known []Job) (b Barrier, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout) // in all
	defer cancel()
	var running, ended []Job
	if err = c.ask(ctx, driver, "/jobs", maxToken, func(d *jsontext.Decoder) (err error) {
		running, ended, err = readJobs(d)
		return err
	}); err != nil {
		return b, err
	}
	for i, job := range slices.Concat(running, ended) {
		if !slices.Contains(known, job) {
			b.Seen, err = c.hasBarrier(ctx, driver, job)
		}
		switch forgotten := i >= len(running) && errors.Is(err, errNoGraph); { // by Spark, as stages of old jobs are
		case b.Seen || err != nil && !forgotten:
			return b, err
		case !forgotten:
			b.Without = append(b.Without, job)
		}
		err = nil
	}
	return b, nil
}

func (c *Client) hasBarrier(ctx context.Context, driver spark.Pod, job Job) (has bool, err error) {
	page := url.URL{Path: "/jobs/job/", RawQuery: "id=" + strconv.FormatInt(job.ID, 10)}
	err = c.get(ctx, driver, page, "text/html", func(from io.Reader) (err error) {
		has, err = showsBarrier(from)
		return err
	})
	return has, err
}

// readJobs returns the jobs that run, and those that ended last, if they have not too many
// stages.
func readJobs(d *jsontext.Decoder) (running, ended []Job, err error) {
	many := false
	err = each(d, func() error {
		job, status, stages := Job{ID: -1}, "", 0
		err := fields(d, func(name string) error {
			switch name {
			case "jobId":
				return value(d, &job.ID)
			case "submissionTime":
				err := value(d, &job.Submitted)
				job.Submitted = bounded.Cut(job.Submitted, maxText)
				return err
			case "status":
				return value(d, &status)
			case "stageIds":
				return each(d, func() error { stages++; return d.SkipValue() })
			}
			return d.SkipValue()
		})
		switch runs := status == "RUNNING"; {
		case job.ID < 0:
		case runs && (len(running) == maxRunning || stages > maxStages):
			many = true
		case runs:
			running = append(running, job)
		case stages <= maxStages:
			ended = append(ended, job)
			slices.SortFunc(ended, func(a, b Job) int { return cmp.Compare(b.ID, a.ID) })
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
