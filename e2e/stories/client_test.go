package stories

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A driver in client mode runs in a pod that Spark did not make, and nothing is written
// there. The death of an executor is reported on that pod if Spark knows its name, or
// else on the executor's own pod.
func TestClientMode(t *testing.T) {
	s := story{
		name: "client-mode", why: "an executor of a driver in client mode grows over its limit",
		app: app{file: "memory.py", args: []string{"rows", "1", "40000000"}, conf: once("spark.executor.memoryOverhead", "16m")},
	}
	s.run(t, func(t *testing.T, version string) {
		for name, named := range map[string]bool{s.name: true, s.name + "-unnamed": false} {
			r := prepare(t, name, version, s.app, true)
			before := recorded(t, withoutDriver, r.Namespace) // of an earlier run
			notebook, err := theLab.RunClient(t.Context(), r.App, named)
			if err != nil {
				t.Fatal(err)
			}
			executor := r.untilExecutorDies(t, oom.OOMKilled)
			on := executor
			if named {
				on = notebook
			}
			r.untilEvent(t, string(oom.OOMKilled))
			found := ours(t, r.Namespace)
			if len(found) != 1 || found[0].Regarding.UID != on.UID || found[0].Regarding.Kind != "Pod" || found[0].Related.UID != executor.UID {
				t.Errorf("the Events are not one on %s: %+v", on.Name, found)
			}
			eventually.Succeeds(t, "the death is counted once, as one without a driver", func(context.Context) error {
				if n := recorded(t, withoutDriver, r.Namespace) - before; n != 1 {
					return fmt.Errorf("%d deaths are counted", n)
				}
				return nil
			})
			theTable.add(t, name, r, fmt.Sprintf("%s, Event on the %s", found[0].Reason, map[bool]string{true: "driver", false: "executor"}[named]))
			r.Look(func(h *lab.History) {
				for _, p := range h.Pods("") { // of no role
					if len(p.Last.Annotations) > len(notebook.Annotations) {
						t.Errorf("%s was changed: %v", p.Last.Name, p.Last.Annotations)
					}
				}
			})
			r.checkExecutors(t)
			if !t.Failed() { // else it is kept first
				remove(t, r.Namespace)
			}
		}
	})
}

const withoutDriver = "spark_vitals_deaths_without_driver_total"

// untilExecutorDies waits until an executor has died of a cause.
func (r *run) untilExecutorDies(t *testing.T, cause oom.Cause) (died *corev1.Pod) {
	t.Helper()
	r.until(t, fmt.Sprintf("an executor dies of cause %s", cause), func(h *lab.History) bool {
		for _, p := range h.Pods(spark.Executor) {
			for _, end := range oom.Terminations(oom.Evidence{Pod: p.Last}) {
				if end.Cause == cause {
					died = p.Last.DeepCopy()
				}
			}
		}
		return died != nil
	})
	return died
}

// ours returns the recorder's Events in a namespace.
func ours(t *testing.T, namespace string) (found []eventsv1.Event) {
	t.Helper()
	events, err := theLab.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.ReportingController == "spark-vitals.io/recorder" {
			found = append(found, e)
		}
	}
	return found
}

// recorded returns the deaths that all recorders count in a namespace.
func recorded(t *testing.T, metric, namespace string) (total int) {
	t.Helper()
	replicas, err := theLab.Client.CoreV1().Pods(lab.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=recorder"})
	if err != nil || len(replicas.Items) == 0 {
		t.Fatal("there is no recorder", err)
	}
	pattern := regexp.MustCompile(`(?m)^` + metric + `\{namespace="` + namespace + `"\} (\d+)$`)
	for _, p := range replicas.Items {
		text, err := theLab.Client.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, "8080", "/metrics", nil).DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if found := pattern.FindSubmatch(text); found != nil {
			n, _ := strconv.Atoi(string(found[1]))
			total += n
		}
	}
	return total
}
