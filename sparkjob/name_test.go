package sparkjob_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// sparks is a driver that spark-submit really made.
func sparks(t testing.TB) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named("spark-3.5.9/driver").Object(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// kyuubis is an engine that Kyuubi really made.
func kyuubis(t testing.TB) *corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("../internal/kyuubitest/driver-oomkilled.json")
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func pod(t testing.TB, p *corev1.Pod) spark.Pod {
	t.Helper()
	of, err := spark.PodOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return of
}

func owned(apiVersion, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: "SparkApplication", Name: name}}
	}
}

func labelled(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := 0; i < len(pairs); i += 2 {
			p.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func annotated(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, annotations.Job, value) }
}

// At admission a label may be as long as a request. It costs no time.
func TestLongLabels(t *testing.T) {
	for _, key := range []string{"spark-app-name", spark.KyuubiTagLabel} {
		p := kyuubis(t)
		p.Labels["spark-app-name"] = "kyuubi-user-spark-sql-alice-default-7"
		p.Labels[key] += strings.Repeat("-7", 1<<20)
		if name := sparkjob.NameOf(pod(t, p)); name != "" {
			t.Errorf("%s: %.80s", key, name)
		}
	}
}

func TestNameOf(t *testing.T) {
	const kubeflow, apache = "sparkoperator.k8s.io/v1beta2", "spark.apache.org/v1"
	for _, test := range []struct {
		why    string
		of     func(testing.TB) *corev1.Pod
		tweaks []func(*corev1.Pod)
		want   string
	}{
		{"spark-submit names no job", sparks, nil, ""},
		{"the user names it", sparks, []func(*corev1.Pod){annotated("nightly-sales")}, "nightly-sales"},
		{"the user's name with a date", sparks, []func(*corev1.Pod){annotated("nightly--2026-12-01")}, "nightly"},
		{"the user's name that looks random", sparks, []func(*corev1.Pod){annotated("etl-x7k2q")}, "etl-x7k2q"},
		{"what is no name is no job", sparks, []func(*corev1.Pod){annotated("Nightly sales"), owned(kubeflow, "etl")}, ""},
		{"the user's name comes first", kyuubis, []func(*corev1.Pod){annotated("nightly")}, "nightly"},
		{"a SparkApplication of kubeflow", sparks, []func(*corev1.Pod){owned(kubeflow, "etl")}, "etl"},
		{"its label, if the operator sets no owner", sparks, []func(*corev1.Pod){labelled("sparkoperator.k8s.io/app-name", "etl")}, "etl"},
		{"a ScheduledSparkApplication: nanoseconds", sparks, []func(*corev1.Pod){owned(kubeflow, "spark-pi-scheduled-1796055442123456789")}, "spark-pi-scheduled"},
		{"a later version: minutes", sparks, []func(*corev1.Pod){owned(kubeflow, "spark-pi-scheduled-29934257")}, "spark-pi-scheduled"},
		{"a date", sparks, []func(*corev1.Pod){owned(kubeflow, "sales-20261130")}, "sales"},
		{"a number that belongs to the name", sparks, []func(*corev1.Pod){owned(kubeflow, "sales-2026")}, "sales-2026"},
		{"a SparkApplication of Apache's operator", sparks, []func(*corev1.Pod){owned(apache, "etl"), labelled("spark.operator/spark-app-name", "etl")}, "etl"},
		{"generateName", sparks, []func(*corev1.Pod){owned(kubeflow, "etl-x7k2q")}, ""},
		{"generateName without a digit", sparks, []func(*corev1.Pod){owned(kubeflow, "etl-xwkqv")}, ""},
		{"a word is not generated", sparks, []func(*corev1.Pod){owned(kubeflow, "etl-sales")}, "etl-sales"},
		{"a long word is not random", sparks, []func(*corev1.Pod){owned(kubeflow, "etl-invoices")}, "etl-invoices"},
		{"Airflow's suffix", sparks, []func(*corev1.Pod){owned(kubeflow, "etl-2ea432f1")}, ""},
		{"a UUID", sparks, []func(*corev1.Pod){owned(kubeflow, "f0c02483-e90e-4517-bbb9-4f09f479e09c")}, ""},
		{"Airflow's task, whose SparkApplication has another name each time", sparks, []func(*corev1.Pod){
			labelled("dag_id", "Daily_Sales", "task_id", "load.to_hive", "run_id", "scheduled__2026-11-30T0000000000-1a2b3c4d5", "try_number", "2"),
			owned(kubeflow, "load-2ea432f1"),
		}, "daily-sales.load.to-hive"},
		{"a DAG alone", sparks, []func(*corev1.Pod){labelled("dag_id", "daily")}, ""},
		{"an engine that many use", kyuubis, nil, "kyuubi-user-spark-sql-alice-default"},
		{"with a name that fits whole", kyuubis, []func(*corev1.Pod){labelled("spark-app-name", "kyuubi-user-spark-sql-al-x-f0c02483-e90e-4517-bbb9-4f09f479e09c")}, "kyuubi-user-spark-sql-al-x"},
		{"with nothing left of the tag", kyuubis, []func(*corev1.Pod){labelled("spark-app-name", "kyuubi-user-spark-sql-"+strings.Repeat("a", 41))}, ""},
		{"a connection's own engine", kyuubis, []func(*corev1.Pod){labelled("spark-app-name", "kyuubi-connection-spark-sql-alice-f0c02483-e90e-4517-bbb9-4f09f")}, ""},
		{"an engine whose user named it", kyuubis, []func(*corev1.Pod){labelled("spark-app-name", "my-reports")}, ""},
		{"a batch", kyuubis, []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"driver", "--class", "com.example.Etl"} }}, ""},
		{"Livy", sparks, []func(*corev1.Pod){labelled("spark-app-tag", "livy-batch-3-x7k2qab1")}, ""},
	} {
		t.Run(test.why, func(t *testing.T) {
			p := test.of(t)
			for _, tweak := range test.tweaks {
				tweak(p)
			}
			if got := sparkjob.NameOf(pod(t, p)); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// An executor is no run.
func TestNameOfExecutor(t *testing.T) {
	p := &corev1.Pod{}
	if err := json.Unmarshal(captured.Named("spark-3.5.9/executor").Object(), p); err != nil {
		t.Fatal(err)
	}
	annotated("nightly")(p)
	if got := sparkjob.NameOf(pod(t, p)); got != "" {
		t.Error(got)
	}
}

// Whatever strangers write, a job's name is the name of an object, or none.
func TestNameIsOfAnObject(t *testing.T) {
	driver := sparks(t)
	rapid.Check(t, func(t *rapid.T) {
		p := driver.DeepCopy()
		for _, key := range []string{"dag_id", "task_id", "sparkoperator.k8s.io/app-name", "spark-app-name"} {
			if rapid.Bool().Draw(t, "has "+key) {
				p.Labels[key] = rapid.String().Draw(t, key)
			}
		}
		if rapid.Bool().Draw(t, "annotated") {
			annotated(rapid.String().Draw(t, "job"))(p)
		}
		of, err := spark.PodOf(p)
		if err != nil {
			t.Fatal(err)
		}
		if name := sparkjob.NameOf(of); name != "" && annotations.CheckJob(name) != nil {
			t.Errorf("%q", name)
		}
	})
}
