package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
)

// row is the result of one object.
type row struct {
	review, name string
	probes       []string // as they are on the created object
	injected     struct {
		Rule string
		Set  []string
		Left map[string]string
	}
}

// createAll creates every captured pod and Service in a namespace. It also returns the
// driver of Spark 3.5.9.
func createAll(ctx context.Context, client kubernetes.Interface, namespace string) (rows []row, driver *corev1.Pod, err error) {
	for _, review := range captured.Reviews() {
		switch review.Kind() {
		case "Pod":
			pod, err := cluster.CapturedPod(review, namespace)
			if err != nil {
				return nil, nil, err
			}
			if pod, err = client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				return nil, nil, fmt.Errorf("creating the pod %s: %w", review.Name, err)
			}
			if review.Name == "spark-3.5.9/driver" {
				driver = pod
			}
			rows = append(rows, rowOf(review.Name, &pod.ObjectMeta, probesOf(pod)))
		case "Service":
			service, err := cluster.CapturedService(review, namespace)
			if err != nil {
				return nil, nil, err
			}
			if service, err = client.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
				return nil, nil, fmt.Errorf("creating the Service %s: %w", review.Name, err)
			}
			rows = append(rows, rowOf(review.Name, &service.ObjectMeta, nil))
		}
	}
	return rows, driver, nil
}

func rowOf(review string, meta *metav1.ObjectMeta, probes []string) row {
	r := row{review: review, name: meta.Name, probes: probes}
	if stamp, ok := meta.Annotations[annotations.Injected]; ok {
		if err := json.Unmarshal([]byte(stamp), &r.injected); err != nil {
			r.injected.Rule = "unreadable: " + stamp
		}
	}
	return r
}

func probesOf(pod *corev1.Pod) (probes []string) {
	for i := range pod.Spec.Containers {
		for _, name := range policy.ProbeNames {
			if *name.Of(&pod.Spec.Containers[i]) != nil {
				probes = append(probes, string(name))
			}
		}
	}
	return probes
}

func printRows(out io.Writer, rows []row) error {
	table := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  CAPTURED\tPROBES IT HAS\tRULE\tSET\tLEFT ALONE")
	for _, r := range rows {
		var left []string
		for field, why := range r.injected.Left {
			left = append(left, field+" ("+why+")")
		}
		slices.Sort(left)
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", r.review, dash(r.probes), dash([]string{r.injected.Rule}), dash(r.injected.Set), dash(left))
	}
	return table.Flush()
}

func dash(words []string) string {
	if text := strings.Join(words, ", "); text != "" {
		return text
	}
	return "-"
}

// printDriver shows one injected container in full, as it is in the cluster.
func printDriver(out io.Writer, driver *corev1.Pod) error {
	fmt.Fprintf(out, "\nThe driver of Spark 3.5.9 in full, as it stands in the cluster (only what was injected):\n")
	c := driver.Spec.Containers[0]
	shown := map[string]any{
		"metadata": map[string]any{"annotations": driver.Annotations},
		"spec": map[string]any{"containers": []any{map[string]any{
			"name": c.Name, "startupProbe": c.StartupProbe, "livenessProbe": c.LivenessProbe, "terminationMessagePolicy": c.TerminationMessagePolicy,
		}}},
	}
	text, err := yaml.Marshal(shown)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "  "+strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  "))
	return err
}
