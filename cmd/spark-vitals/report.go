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
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

func reportCommand() *cobra.Command {
	var (
		files         []string
		output        string
		all, follow   bool
		rules         = clientcmd.NewDefaultClientConfigLoadingRules()
		overrides     clientcmd.ConfigOverrides
		contextFlags  = clientcmd.RecommendedConfigOverrideFlags("")
		onlyNamespace = &contextFlags.ContextOverrideFlags.Namespace
	)
	command := &cobra.Command{
		Use:   "report",
		Short: "List what died, of what, how often, and what to do; and what is stalled",
		Long: `List the Spark drivers that have a record of deaths: their own and those of
their executors, of what, how often, and what to do about it; and those whose log
is silent for too long. It reads what the recorder and the stall watch have
written on them, from the cluster or from files.

As a kubectl plugin it is "kubectl spark-vitals report", when the program is also
installed under the name kubectl-spark_vitals.

Exit status: 0 when nothing died or is stalled; 2 when something did or is; 1
when it could not be found out. That a driver was silent before it ended is no
finding.`,
		Example: `  spark-vitals report -n spark
  spark-vitals report -A -o json
  kubectl get pods -o yaml | spark-vitals report -f -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			show, ok := reportOutputs[output]
			switch {
			case !ok:
				return fmt.Errorf("-o is %q; it must be table, json or yaml", output)
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
				return report(c.OutOrStdout(), deathsOf(pods), show)
			}
			config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &overrides)
			client, namespace, err := reportClient(config, all)
			if err != nil {
				return err
			}
			list, err := client.CoreV1().Pods(namespace).List(c.Context(), metav1.ListOptions{LabelSelector: drivers})
			if err != nil {
				return fmt.Errorf("listing Spark's drivers: %w", err)
			}
			if follow { // what cannot be listed would be tried for ever in silence
				return watchReport(c.Context(), c.OutOrStdout(), client, namespace)
			}
			return report(c.OutOrStdout(), deathsOf(list.Items), show)
		},
	}
	flags := command.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "read pods from a file or folder, or - for standard input, instead of the cluster; may be given several times")
	flags.StringVarP(&output, "output", "o", "table", "table, json or yaml")
	flags.BoolVarP(&all, "all-namespaces", "A", false, "all namespaces")
	flags.BoolVarP(&follow, "watch", "w", false, "go on, and print each record that changes")
	flags.StringVar(&rules.ExplicitPath, "kubeconfig", "", "file that says how to reach the API server")
	onlyNamespace.ShortName = "n"
	clientcmd.BindOverrideFlags(&overrides, flags, contextFlags)
	return command
}

// drivers, as the API server selects them.
const drivers = spark.RoleLabel + "=" + string(spark.Driver)

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

func podsIn(files []string, stdin io.Reader) (pods []corev1.Pod, err error) {
	var in input
	if err := in.readObjects(files, stdin); err != nil {
		return nil, err
	}
	for _, o := range in.objects {
		if o.pod != nil {
			pods = append(pods, *o.pod)
		}
	}
	return pods, nil
}

// reported is a driver with its record.
type reported struct {
	Namespace   string     `json:"namespace"`
	Driver      string     `json:"driver"`
	UID         string     `json:"uid"`
	Application string     `json:"application,omitempty"`
	Version     string     `json:"sparkVersion,omitempty"`
	State       string     `json:"state,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Message     string     `json:"message,omitempty"`
	Record      oom.Record `json:"record"`
	// Stalled is what the stall watch reported last; of one that ended, before.
	Stalled *stall.Mark `json:"stalled,omitempty"`
	Ended   bool        `json:"ended,omitempty"`
	// Unreadable says why there is no record, where there should be one.
	Unreadable string `json:"unreadable,omitempty"`
}

// deathsOf the pods that are drivers and have a record, by namespace, the last
// to die first.
func deathsOf(pods []corev1.Pod) (all []reported) {
	for i := range pods {
		if r, ok := reportOf(&pods[i]); ok {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b reported) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), b.at().Compare(a.at()), cmp.Compare(a.Driver, b.Driver))
	})
	return all
}

func reportOf(p *corev1.Pod) (reported, bool) {
	record, err := oom.Read(p.Annotations)
	stalled, problem := stalledOf(p)
	err = errors.Join(err, problem)
	r := reported{
		Namespace: p.Namespace, Driver: p.Name, UID: string(p.UID),
		Application: p.Labels[spark.ApplicationLabel], Version: p.Labels[spark.VersionLabel],
		State: p.Annotations[annotations.State], Reason: p.Annotations[annotations.Reason], Message: p.Annotations[annotations.Message],
		Record: record, Stalled: stalled,
		Ended: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	if err != nil {
		r.Unreadable = err.Error()
	}
	return r, p.Labels[spark.RoleLabel] == string(spark.Driver) && (!record.IsZero() || r.State != "" || stalled != nil || err != nil)
}

func stalledOf(p *corev1.Pod) (*stall.Mark, error) {
	text, ok := p.Annotations[annotations.Stalled]
	if !ok {
		return nil, nil
	}
	mark, err := stall.ParseMark(text)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotations.Stalled, err)
	}
	return mark, nil
}

// at is when something of it died last, or was found to be stalled.
func (r reported) at() (last time.Time) {
	if r.Stalled != nil {
		last = r.Stalled.Found
	}
	if r.Record.Driver != nil && r.Record.Driver.At.After(last) {
		last = r.Record.Driver.At.Time
	}
	for _, d := range r.Record.Details {
		if d.At.After(last) {
			last = d.At.Time
		}
	}
	return last
}

func report(out io.Writer, all []reported, show func(io.Writer, []reported) error) error {
	if err := show(out, all); err != nil {
		return err
	}
	if slices.ContainsFunc(all, reported.counts) {
		return errFound
	}
	return nil
}

// counts: that a driver was silent before it ended is no finding by itself.
func (r reported) counts() bool {
	return !r.Record.IsZero() || r.State != "" || r.Unreadable != "" || !r.Ended
}

// watchReport prints each record as it is and as it changes, until it is
// stopped.
func watchReport(ctx context.Context, out io.Writer, client kubernetes.Interface, namespace string) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = drivers }))
	found, told, changed := false, map[string]string{}, make(chan reported)
	see := func(object any) {
		if p, ok := object.(*corev1.Pod); ok {
			if r, ok := reportOf(p); ok {
				select {
				case changed <- r:
				case <-ctx.Done():
				}
			}
		}
	}
	pods := factory.Core().V1().Pods().Informer()
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, now any) { see(now) }}); err != nil {
		return err
	}
	go pods.RunWithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			if found {
				return errFound
			}
			return nil
		case r := <-changed:
			text := strings.Join([]string{r.State, r.Reason, r.Message, fmt.Sprint(r.Record.Deaths), r.stalled()}, "\n")
			if told[r.UID] == text {
				continue
			}
			found, told[r.UID] = found || r.counts(), text
			if err := printReport(out, []reported{r}); err != nil {
				return err
			}
		}
	}
}
