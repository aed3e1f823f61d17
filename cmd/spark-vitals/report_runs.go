package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/pager"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// runsAsked is which runs a report is about.
type runsAsked struct {
	since since
	job   string
}

// any reports whether the report is about runs, and not about pods.
func (a *runsAsked) any() bool { return a.since.text != "" || a.job != "" }

// since is the value of --since: a duration, which may also be in days.
type since struct {
	text string
	time.Duration
}

func (s *since) String() string { return s.text }
func (s *since) Type() string   { return "duration" }

// Set implements pflag.Value.
func (s *since) Set(text string) (err error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		s.Duration, err = time.ParseDuration(days + "h")
		s.Duration *= 24
	} else {
		s.Duration, err = time.ParseDuration(text)
	}
	if err != nil || s.Duration <= 0 {
		return errors.New(`must be a duration such as "14d" or "36h"`)
	}
	s.text = text
	return nil
}

// reportedJob is a job with its runs in the time that was asked for.
type reportedJob struct {
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
	Runs      int    `json:"runs"`
	Bad       int    `json:"bad"`
	// LostExecutorHours is the time that executors ran in vain.
	LostExecutorHours float64       `json:"lostExecutorHours"`
	Deaths            []oom.Deaths  `json:"deaths,omitempty"`
	Last              *sparkjob.Run `json:"last,omitempty"`
	Message           string        `json:"message,omitempty"` // of the newest run that has one
	LastGood          *sparkjob.Run `json:"lastGood,omitempty"`
	FirstBad          *sparkjob.Run `json:"firstBad,omitempty"`
	// Changed is what differs between the last good run and the first bad one.
	Changed   []sparkjob.Difference `json:"changed,omitempty"`
	GivesBack []sparkjob.Spare      `json:"givesBack,omitempty"`
	// NextRun is what the next run starts with, because earlier ones died of memory.
	NextRun sparkjob.Containers[sparkjob.Next] `json:"nextRun,omitzero"`
}

// foundJobs are the jobs that were found, those first that lost most.
type foundJobs struct {
	Items []reportedJob `json:"items"`
}

var jobOutputs = outputs(printJobs)

// reportRuns prints a report over runs.
func reportRuns(ctx context.Context, out io.Writer, client dynamic.Interface, namespace string, asked runsAsked, show func(io.Writer, *foundJobs) error) error {
	found, err := jobsIn(ctx, client, namespace, asked, time.Now())
	if err != nil {
		return err
	}
	if err := show(out, found); err != nil {
		return err
	}
	if slices.ContainsFunc(found.Items, func(j reportedJob) bool { return j.FirstBad != nil }) {
		return errFound
	}
	return nil
}

// jobsIn lists the SparkJobs of a namespace, or with "" of all.
func jobsIn(ctx context.Context, client dynamic.Interface, namespace string, asked runsAsked, now time.Time) (*foundJobs, error) {
	var options metav1.ListOptions
	if asked.job != "" {
		options.FieldSelector = fields.OneTermEqualSelector("metadata.name", asked.job).String()
	}
	list := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.Resource(sparkjob.Resource).Namespace(namespace).List(ctx, o)
	})
	found := &foundJobs{Items: []reportedJob{}}
	err := list.EachListItem(ctx, options, func(o runtime.Object) error {
		object := o.(*unstructured.Unstructured)
		status, err := sparkjob.Read(object.Object)
		if err != nil {
			return fmt.Errorf("the SparkJob %s/%s: %w", object.GetNamespace(), object.GetName(), err)
		}
		runs := slices.DeleteFunc(slices.Clone(status.Runs), func(r sparkjob.Run) bool {
			return asked.since.Duration > 0 && now.Sub(r.Began.Time) > asked.since.Duration
		})
		if len(runs) > 0 && (asked.job == "" || object.GetName() == asked.job) {
			found.Items = append(found.Items, reportOfJob(object, &status, runs))
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil, errors.New("the cluster has no SparkJobs; the value sparkJobs.enabled of the chart turns them on (docs/jobs.md)")
	}
	if err != nil {
		return nil, fmt.Errorf("listing SparkJobs: %w", err)
	}
	slices.SortStableFunc(found.Items, func(a, b reportedJob) int {
		return cmp.Or(cmp.Compare(b.LostExecutorHours, a.LostExecutorHours), cmp.Compare(b.Bad, a.Bad), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Job, b.Job))
	})
	return found, nil
}

// reportOfJob works out what runs say, of which there is at least one. What could be given
// back, and since when runs are bad, all runs say that are known.
func reportOfJob(object *unstructured.Unstructured, of *sparkjob.Status, runs []sparkjob.Run) reportedJob {
	all := of.Runs
	j := reportedJob{Namespace: object.GetNamespace(), Job: object.GetName(), Runs: len(runs), Last: &runs[0], GivesBack: sparkjob.GivesBack(all), NextRun: of.NextRun}
	var lost int64
	for i := range runs {
		if runs[i].State.IsBad() {
			j.Bad++
		}
		lost += runs[i].LostExecutorSeconds
		j.Message = cmp.Or(j.Message, runs[i].Message)
		j.count(runs[i].Deaths)
	}
	j.LostExecutorHours = float64(lost/36) / 100
	if j.LastGood, j.FirstBad = sparkjob.Turn(all); j.LastGood != nil {
		j.Changed = sparkjob.Differences(j.LastGood, j.FirstBad)
	}
	return j
}

// count adds the deaths of a run.
func (j *reportedJob) count(deaths []oom.Deaths) {
	for _, d := range deaths {
		i := slices.IndexFunc(j.Deaths, func(k oom.Deaths) bool {
			return k.Role == d.Role && k.Container == d.Container && k.Cause == d.Cause
		})
		if i < 0 {
			j.Deaths = append(j.Deaths, d)
		} else {
			j.Deaths[i].Count += d.Count
		}
	}
}

// printJobs prints a line for each job, and what to do below.
func printJobs(out io.Writer, found *foundJobs) error {
	if len(found.Items) == 0 {
		fmt.Fprintln(out, "No job had a run.")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tRUNS\tBAD\tLOST EXECUTOR HOURS\tLAST\tREASON\tBEGAN")
	printed := found.Items[:min(len(found.Items), maxPrinted)]
	for _, j := range printed {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.1f\t%s\t%s\t%s\n", bounded.Printable(qualified(j.Namespace, j.Job)), j.Runs, j.Bad, j.LostExecutorHours,
			bounded.Printable(string(j.Last.State)), bounded.Printable(cmp.Or(j.Last.Reason, "-")), j.Last.Began.UTC().Format(time.RFC3339))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, j := range printed {
		texts := j.texts()
		if len(texts) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", bounded.Printable(qualified(j.Namespace, j.Job)))
		for _, text := range texts {
			fmt.Fprintf(out, "  %s\n", bounded.Printable(text))
		}
	}
	if more := len(found.Items) - maxPrinted; more > 0 {
		fmt.Fprintf(out, "\n%d more are left out; -o json lists all.\n", more)
	}
	return nil
}

// texts returns what there is to say about a job.
func (j *reportedJob) texts() (all []string) {
	for _, d := range j.Deaths {
		all = append(all, fmt.Sprintf("%s: %s, %s", who(d), d.Cause, times(d.Count)))
	}
	if j.FirstBad != nil && j.Message != "" {
		all = append(all, j.Message)
	}
	if j.LastGood != nil {
		all = append(all, fmt.Sprintf("The last good run began %s, the first bad one %s.", j.LastGood.Began.UTC().Format(time.RFC3339), j.FirstBad.Began.UTC().Format(time.RFC3339)))
		for _, d := range j.Changed {
			all = append(all, "Since then changed: "+d.String())
		}
	}
	all = append(all, sparkjob.Explain(j.NextRun)...)
	for _, s := range j.GivesBack {
		all = append(all, s.String())
	}
	return all
}
