package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/recorder"
	"github.com/spark-vitals/spark-vitals/spark"
)

func reportCommand() *cobra.Command {
	var (
		files         []string
		output        string
		all, follow   bool
		runs          runsAsked
		rules         = clientcmd.NewDefaultClientConfigLoadingRules()
		overrides     clientcmd.ConfigOverrides
		contextFlags  = clientcmd.RecommendedConfigOverrideFlags("")
		onlyNamespace = &contextFlags.ContextOverrideFlags.Namespace
	)
	command := &cobra.Command{
		Use:   "report",
		Short: "List what died, why, how often, and what to do; and what is stalled",
		Long: `List the Spark drivers that died or whose executors died: why, how often, and what to
do. Also list those whose log is silent for too long or whose heap is exhausted. report
reads what the recorder and the stall watch wrote on the drivers, from the cluster or
from files.

If a driver has no record, report works the deaths out from the statuses of the
existing pods, and says so. On a cluster it also reads the recorder's Events, which
describe deaths of pods that are gone. Events are kept for one hour by default.

With --since or --job it reports over the runs of jobs instead, which the recorder keeps
in SparkJobs. It says what cost most, what changed between the last good run and the
first bad one, and which memory could be given back.

If the program is also installed as kubectl-spark_vitals, run it as
"kubectl spark-vitals report".

Exit status: 0 if nothing died or is stalled; 2 if something did or is; 1 if report
could not find out. A driver that was silent before it ended is not a finding. Of jobs,
2 if the last run of one that ended was bad.`,
		Example: `  spark-vitals report -n spark
  spark-vitals report -A -o json
  spark-vitals report -A --since 14d
  kubectl get pods -o yaml | spark-vitals report -f -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			show, ok := reportOutputs[output]
			switch {
			case !ok:
				return fmt.Errorf("-o is %q; it must be table, json or yaml", output)
			case runs.any() && (follow || len(files) > 0):
				return errors.New("--since and --job ask the cluster for SparkJobs; they do not go with -f or --watch")
			case follow && output != "table":
				return errors.New("--watch prints a table; it does not go with -o")
			case follow && len(files) > 0:
				return errors.New("--watch asks the cluster; it does not go with -f")
			}
			if len(files) > 0 {
				pods, err := podsIn(files, c.InOrStdin())
				if err != nil {
					return err
				}
				return report(c.OutOrStdout(), foundIn(pods), show)
			}
			config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &overrides)
			client, namespace, err := reportClient(config, all)
			if err != nil {
				return err
			}
			if runs.any() {
				jobs, err := jobsOf(config)
				if err != nil {
					return err
				}
				return reportRuns(c.Context(), c.OutOrStdout(), jobs, namespace, runs, jobOutputs[output])
			}
			if follow { // what cannot be listed would be tried for ever in silence
				if _, err := client.CoreV1().Pods(namespace).List(c.Context(), metav1.ListOptions{LabelSelector: sparkPods, Limit: 1}); err != nil {
					return fmt.Errorf("listing Spark's pods: %w", err)
				}
				return watchReport(c.Context(), c.OutOrStdout(), client, namespace)
			}
			pods, err := listPods(c.Context(), client, namespace)
			if err != nil {
				return err
			}
			found := foundIn(pods)
			if err := found.askForEvents(c.Context(), client, namespace, pods, c.ErrOrStderr()); err != nil {
				return err
			}
			return report(c.OutOrStdout(), found, show)
		},
	}
	flags := command.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "read pods from a file or folder, or - for standard input, instead of the cluster; can be repeated")
	flags.StringVarP(&output, "output", "o", "table", "table, json or yaml")
	flags.BoolVarP(&all, "all-namespaces", "A", false, "all namespaces")
	flags.Var(&runs.since, "since", "report over the runs of jobs that began in this time, such as 14d or 36h")
	flags.StringVar(&runs.job, "job", "", "report over the runs of the SparkJob with this name")
	flags.BoolVarP(&follow, "watch", "w", false, "continue, and print each record that changes")
	flags.StringVar(&rules.ExplicitPath, "kubeconfig", "", "file that says how to reach the API server")
	onlyNamespace.ShortName = "n"
	clientcmd.BindOverrideFlags(&overrides, flags, contextFlags)
	return command
}

// sparkPods is the label selector of Spark's pods.
const sparkPods = spark.RoleLabel + " in (" + string(spark.Driver) + "," + string(spark.Executor) + ")"

// listPods lists the pods in pages, without what is large and not read.
func listPods(ctx context.Context, client kubernetes.Interface, namespace string) (pods []*corev1.Pod, err error) {
	list := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Pods(namespace).List(ctx, o)
	})
	err = list.EachListItem(ctx, metav1.ListOptions{LabelSelector: sparkPods}, func(o runtime.Object) error {
		p := o.(*corev1.Pod).DeepCopy() // the item alone would keep its page
		p.ManagedFields = nil
		pods = append(pods, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing Spark's pods: %w", err)
	}
	return pods, nil
}

func reportClient(config clientcmd.ClientConfig, all bool) (kubernetes.Interface, string, error) {
	to, err := config.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	namespace, _, err := config.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if all {
		namespace = metav1.NamespaceAll
	}
	client, err := kubernetes.NewForConfig(to)
	return client, namespace, err
}

// jobsOf returns a client of SparkJobs.
func jobsOf(config clientcmd.ClientConfig) (dynamic.Interface, error) {
	to, err := config.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return dynamic.NewForConfig(to)
}

func podsIn(files []string, stdin io.Reader) (pods []*corev1.Pod, err error) {
	var in input
	if err := in.readObjects(files, stdin); err != nil {
		return nil, err
	}
	for _, o := range in.objects {
		if o.pod != nil {
			pods = append(pods, o.pod)
		}
	}
	return pods, nil
}

// The sources of a report.
const (
	fromRecord   = "record"   // that the recorder wrote on the driver
	fromStatuses = "statuses" // of the pods that were read
	fromEvents   = "events"   // of the recorder, about pods that are gone
)

// reported is a driver with its record.
type reported struct {
	Namespace   string     `json:"namespace"`
	Driver      string     `json:"driver"`
	UID         string     `json:"uid"`
	Application string     `json:"application,omitempty"`
	Version     string     `json:"sparkVersion,omitempty"`
	Source      string     `json:"source"`
	State       string     `json:"state,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Message     string     `json:"message,omitempty"`
	Record      oom.Record `json:"record"`
	// Events are about deaths of pods that are gone, the newest first.
	Events []deathEvent `json:"events,omitempty"`
	// Absent is true if the driver's pod is not among the pods that were read.
	Absent bool `json:"driverAbsent,omitempty"`
	// Stalled is the last report of the stall watch. For a driver that ended, it is
	// from before the end.
	Stalled *annotations.StallMark `json:"stalled,omitempty"`
	// Previous is how the previous driver of the same SparkApplication ended.
	Previous *oom.PreviousDriver `json:"previousDriver,omitempty"`
	Ended    bool                `json:"ended,omitempty"`
	// Unreadable is the reason why there is no record although there should be one.
	Unreadable string `json:"unreadable,omitempty"`
}

// findings are what was found, and in what.
type findings struct {
	Items     []reported `json:"items"`
	Drivers   int        `json:"drivers"`   // that were looked at
	Executors int        `json:"executors"` // that were looked at
	// Events is true if the recorder's Events were read.
	Events bool `json:"eventsRead"`
}

// foundIn returns the applications in which something died, by namespace, the last to
// die first.
func foundIn(pods []*corev1.Pod) *findings {
	f := findings{Items: []reported{}}
	for _, p := range pods {
		switch spark.Role(p.Labels[spark.RoleLabel]) {
		case spark.Driver:
			f.Drivers++
			if _, err := spark.PodOf(p); err != nil { // its annotations are all that can be read
				f.add(reportOf(p))
			}
		case spark.Executor:
			f.Executors++
		}
	}
	for _, a := range recorder.Applications(pods) {
		f.add(reportOfApplication(a, &oom.Record{}))
	}
	f.sort()
	return &f
}

func (f *findings) add(r reported) {
	if r.hasContent() {
		f.Items = append(f.Items, r)
	}
}

func (f *findings) sort() {
	slices.SortStableFunc(f.Items, func(a, b reported) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), b.at().Compare(a.at()), cmp.Compare(a.Driver, b.Driver))
	})
}

// reportOfApplication reads the driver's record. Without one it computes a record from
// the pods' statuses and from earlier statuses.
func reportOfApplication(a *recorder.Application, before *oom.Record) reported {
	r := reported{Namespace: a.Pod().Namespace, Source: fromStatuses, Absent: true}
	if a.Driver != nil {
		r = reportOf(a.Driver)
		if !r.Record.IsZero() || r.State != "" {
			return r
		}
	}
	a.AddTo(before)
	if before.IsZero() {
		return r
	}
	pod := a.Pod()
	if r.Absent {
		r.Application, r.Version = pod.Application(), pod.Version()
		if driver, ok := pod.Driver(); ok {
			r.Driver, r.UID = driver.Name, string(driver.UID)
		}
	}
	r.Source, r.Record = fromStatuses, *before
	r.Reason, r.Message, r.Record.Advice = before.Reason(), before.Message(pod), before.Changes(pod)
	if a.Driver != nil {
		r.State = string(before.State(pod))
	}
	return r
}

func reportOf(p *corev1.Pod) reported {
	record, err := oom.Read(p.Annotations)
	stalled, problem := stalledOf(p)
	previous, unreadable := oom.ReadPrevious(p.Annotations)
	err = errors.Join(err, problem, unreadable)
	r := reported{
		Namespace: p.Namespace, Driver: p.Name, UID: string(p.UID), Source: fromRecord,
		Application: p.Labels[spark.ApplicationLabel], Version: p.Labels[spark.VersionLabel],
		State: p.Annotations[annotations.State], Reason: p.Annotations[annotations.Reason], Message: p.Annotations[annotations.Message],
		Record: record, Stalled: stalled, Previous: previous,
		Ended: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	if err != nil {
		r.Unreadable = err.Error()
	}
	return r
}

func (r reported) hasContent() bool {
	return !r.Record.IsZero() || r.State != "" || r.Stalled != nil || r.Previous != nil || r.Unreadable != "" || len(r.Events) > 0
}

func stalledOf(p *corev1.Pod) (*annotations.StallMark, error) {
	text, ok := p.Annotations[annotations.Stalled]
	if !ok {
		return nil, nil
	}
	mark, err := annotations.ReadStallMark(text)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotations.Stalled, err)
	}
	return mark, nil
}

// at returns when something of it died last, or was found to be stalled.
func (r reported) at() (last time.Time) {
	see := func(at time.Time) {
		if at.After(last) {
			last = at
		}
	}
	if r.Stalled != nil {
		see(r.Stalled.Found)
	}
	if r.Record.Driver != nil {
		see(r.Record.Driver.At.Time)
	}
	for _, d := range r.Record.Details {
		see(d.At.Time)
	}
	if r.Previous != nil {
		see(r.Previous.At.Time)
	}
	for _, e := range r.Events {
		see(e.At.Time)
	}
	return last
}

func report(out io.Writer, found *findings, show func(io.Writer, *findings) error) error {
	if err := show(out, found); err != nil {
		return err
	}
	if slices.ContainsFunc(found.Items, reported.counts) {
		return errFound
	}
	return nil
}

// counts reports whether there is something to report. A driver that was silent only
// before it ended is not a finding.
func (r reported) counts() bool {
	return !r.Record.IsZero() || r.State != "" || r.Unreadable != "" || len(r.Events) > 0 || !r.Ended
}

// watchReport prints each record as it is and as it changes, until it is stopped.
// Unlike "kubectl get events --watch" it also works without a recorder: it finds
// deaths in statuses, and keeps them when the pods are gone.
func watchReport(ctx context.Context, out io.Writer, client kubernetes.Interface, namespace string) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = sparkPods }))
	pods := factory.Core().V1().Pods().Informer()
	application := func(object any) string {
		p := object.(*corev1.Pod)
		return p.Namespace + "/" + p.Labels[spark.ApplicationLabel]
	}
	byApplication := cache.Indexers{"application": func(object any) ([]string, error) { return []string{application(object)}, nil }}
	if err := pods.AddIndexers(byApplication); err != nil {
		return err
	}
	changed := make(chan string)
	see := func(object any) {
		select {
		case changed <- application(object):
		case <-ctx.Done():
		}
	}
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, now any) { see(now) }}); err != nil {
		return err
	}
	go pods.RunWithContext(ctx)
	found, printed, worked := false, map[string]string{}, map[string]*oom.Record{}
	for {
		select {
		case <-ctx.Done():
			if found {
				return errFound
			}
			return nil
		case key := <-changed:
			objects, err := pods.GetIndexer().ByIndex("application", key)
			if err != nil {
				return err
			}
			for _, r := range changedIn(objects, worked) {
				text := strings.Join([]string{r.Source, r.State, r.Reason, r.Message, fmt.Sprint(r.Record.Deaths), r.stalled()}, "\n")
				if printed[r.key()] == text {
					continue
				}
				found, printed[r.key()] = found || r.counts(), text
				if err := printReported(out, r); err != nil {
					return err
				}
			}
		}
	}
}

// changedIn returns the reports of an application's pods that changed. worked keeps
// the records that were computed.
func changedIn(objects []any, worked map[string]*oom.Record) (all []reported) {
	var pods []*corev1.Pod
	for _, o := range objects {
		p := o.(*corev1.Pod)
		pods = append(pods, p)
		if _, err := spark.PodOf(p); err != nil && p.Labels[spark.RoleLabel] == string(spark.Driver) {
			if r := reportOf(p); r.hasContent() {
				all = append(all, r)
			}
		}
	}
	for _, a := range recorder.Applications(pods) {
		key := a.Key()
		if worked[key] == nil {
			worked[key] = &oom.Record{}
		}
		if r := reportOfApplication(a, worked[key]); r.hasContent() {
			all = append(all, r)
		}
	}
	return all
}

// key identifies a driver, or an application without one.
func (r reported) key() string { return strings.Join([]string{r.Namespace, r.Application, r.UID}, "/") }
