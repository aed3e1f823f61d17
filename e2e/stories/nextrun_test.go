package stories

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// again is a story of a job that fails in its first run, and succeeds in its second one.
type again struct {
	story
	// role has the change in the second run.
	role spark.Role
	// job is the SparkJob's name.
	job string
	// group: the whole container is killed.
	group bool
	// healthy: the first run succeeds too.
	healthy bool
}

// nextly returns a story with the application's settings.
func nextly(name, why string, role spark.Role, a app, more ...string) again {
	s := remedying(name, why, "", a, append(more, "spark.kubernetes.driver.label."+lab.RemedyLabel, "next")...)
	s.app.conf["spark.kubernetes.executor.label."+lab.RemedyLabel] = "next"
	return again{story: s.story, role: role, job: "nightly"}
}

func (s again) inCI() again     { s.ci = newest; return s }
func (s again) killed() again   { s.group, s.host = true, true; return s }
func (s again) harmless() again { s.healthy = true; return s }

const (
	jobAnnotation = "spark.kubernetes.driver.annotation." + annotations.Job
	exitOnOOM     = "spark.kubernetes.driver.annotation.spark-vitals.io/exitOnOutOfMemoryError"
)

var nextStories = []again{
	nextly("remedy-next-driver-heap", "the driver collects more than its heap holds", spark.Driver,
		app{file: "memory.py", args: []string{"gather", "55"}}, jobAnnotation, "nightly", exitOnOOM, "true").inCI(),
	nextly("remedy-next-driver-python", "the driver's Python process grows over the limit; the SparkApplication's label names the job; the whole container is killed", spark.Driver,
		app{file: "memory.py", args: []string{"python", "800"}}, "spark.kubernetes.driver.label.sparkoperator.k8s.io/app-name", "nightly").killed(),
	nextly("remedy-next-executors", "a task fails once for good, before an executor with fewer cores comes", spark.Executor,
		manyRows, jobAnnotation, "nightly", "spark.executor.cores", "3", "spark.task.maxFailures", "1"),
	nextly("remedy-next-healthy", "nothing dies: the second run is as Spark asks", "",
		app{file: "pi", args: []string{"4"}}, jobAnnotation, "nightly").harmless(),
}

func TestNextRuns(t *testing.T) {
	for _, s := range nextStories {
		s.run(t, func(t *testing.T, version string) {
			if s.group {
				killWhole(t)
			}
			first := submit(t, s.name, version, s.app, true)
			without := submit(t, s.name, version, s.app, false)
			first.untilDriverEnds(t)
			if got := first.outcome().result; (got == succeeded) != s.healthy {
				t.Errorf("the first run is %s", got)
			}
			s.untilKept(t, first)
			second := s.again(t, first)
			second.untilDriverEnds(t)
			without.untilDriverEnds(t)
			if got := second.outcome().result; got != succeeded {
				t.Errorf("the second run is %s", got)
			}
			s.checkChanges(t, second)
			if got := without.outcome().result; (got == succeeded) != s.healthy {
				t.Errorf("without spark-vitals it is %s", got)
			}
			theTable.add(t, s.name, second, "its second run")
			theTable.add(t, s.name, without, without.executorsSeen())
		})
	}
}

// again submits the application once more.
func (s again) again(t *testing.T, first *run) *run {
	t.Helper()
	second := &run{with: true, App: first.App}
	second.Name = "app2"
	var err error
	if second.History, err = theLab.Watch(t.Context(), second.Namespace); err != nil {
		t.Fatal(err)
	}
	if err := theLab.Submit(t.Context(), second.App); err != nil {
		t.Fatal(err)
	}
	return second
}

// untilKept waits until the job has the end of its first run, and what the next one gets.
func (s again) untilKept(t *testing.T, first *run) {
	t.Helper()
	client, err := dynamic.NewForConfig(theLab.Config)
	if err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the job has its first run", func(ctx context.Context) error {
		object, err := client.Resource(sparkjob.Resource).Namespace(first.Namespace).Get(ctx, s.job, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status, err := sparkjob.Read(object.Object)
		if err != nil {
			return err
		}
		text, err := json.Marshal(status)
		next := map[spark.Role]sparkjob.Next{spark.Driver: status.NextRun.Driver, spark.Executor: status.NextRun.Executor}
		if known := len(status.Runs) > 0 && status.Runs[0].State != sparkjob.Running; err != nil || !known || s.role != "" && next[s.role].Mode != annotations.Enabled {
			return fmt.Errorf("%s %w", text, err)
		}
		t.Logf("%s", text)
		return nil
	})
}

// checkChanges checks that pods of the story's role were changed, and no others.
func (s again) checkChanges(t *testing.T, second *run) {
	t.Helper()
	changed := map[spark.Role][]string{}
	second.Look(func(h *lab.History) {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			for _, p := range h.Pods(role) {
				if stamp := p.Last.Annotations[annotations.Remedied]; stamp != "" {
					changed[role] = append(changed[role], p.Last.Name+" "+stamp+" "+limits(p.Last))
				}
			}
		}
	})
	t.Log(changed, second.driverPod(t).Annotations[annotations.Remedy], second.driverPod(t).Annotations[annotations.Message])
	for _, role := range []spark.Role{spark.Driver, spark.Executor} {
		if got := len(changed[role]) > 0; got != (role == s.role) {
			t.Errorf("%s: %s", role, strings.Join(changed[role], "; "))
		}
	}
}

func limits(p *corev1.Pod) string {
	c := p.Spec.Containers[0]
	return fmt.Sprint(c.Resources.Limits.Memory(), " of ", c.Resources.Requests.Memory(), " ", c.Args[:min(3, len(c.Args))])
}
