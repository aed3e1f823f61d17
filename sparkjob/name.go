package sparkjob

import (
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Labels from which a job's name is known.
const (
	// Airflow's SparkKubernetesOperator puts these on driver and executors
	// (operators/spark_kubernetes.py, _get_ti_pod_labels). Values are already short enough
	// for labels.
	dagLabel, taskLabel = "dag_id", "task_id"
	// The SparkApplication's name, by kubeflow's operator (pkg/common/spark.go) and by
	// Apache's (Constants.java).
	kubeflowAppLabel, apacheAppLabel = "sparkoperator.k8s.io/app-name", "spark.operator/spark-app-name"
	appNameLabel                     = "spark-app-name" // since Spark 3.3
)

// maxLabel is how many bytes the value of a label may have.
const maxLabel = 63

// sources are what names a job, the surest first. The first one that has a say decides,
// also if it says that there is no job ("").
var sources = []func(spark.Pod) (name string, known bool){
	fromAnnotation,
	// Before the SparkApplication, because Airflow gives each one another name.
	fromAirflow,
	fromSparkApplication,
	fromKyuubi,
}

// NameOf returns the name of the job that a driver's application is a run of. It is ""
// if nothing names a job that runs again, as with a plain spark-submit.
func NameOf(driver spark.Pod) string {
	if driver.Role != spark.Driver {
		return ""
	}
	for _, source := range sources {
		if name, known := source(driver); known {
			return name
		}
	}
	return ""
}

// fromAnnotation reads what the user says, without a time stamp. If it is no name, there is
// no job: another one would surprise the user.
func fromAnnotation(driver spark.Pod) (name string, known bool) {
	name, known = driver.Annotations[annotations.Job]
	if annotations.CheckJob(name) != nil {
		name = ""
	}
	return withoutTime(name), known
}

// fromAirflow reads the DAG and the task. Its other labels differ for each run.
func fromAirflow(driver spark.Pod) (name string, known bool) {
	dag, task := driver.Labels[dagLabel], driver.Labels[taskLabel]
	if dag == "" || task == "" {
		return "", false
	}
	return objectName(dag + "." + task), true
}

// fromSparkApplication reads the name of the SparkApplication. It is that of the owner, or
// else of the label that an operator sets.
func fromSparkApplication(driver spark.Pod) (name string, known bool) {
	i := slices.IndexFunc(driver.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "SparkApplication" })
	switch {
	case i >= 0:
		name = driver.OwnerReferences[i].Name
	case driver.Labels[kubeflowAppLabel] != "":
		name = driver.Labels[kubeflowAppLabel]
	default:
		name = driver.Labels[apacheAppLabel]
	}
	return withoutRun(objectName(name)), name != ""
}

// fromKyuubi reads the engine's space from the name that Kyuubi gives the application:
// kyuubi_USER_SPARK_SQL_alice_default_TAG (EngineRef.scala, defaultEngineName). Spark cuts
// it to 63 bytes, so the tag may be incomplete. If nothing of it is left, the space may be
// cut too. With share level CONNECTION each connection has a space of its own. A batch has
// the name that its user chose.
func fromKyuubi(driver spark.Pod) (name string, known bool) {
	if driver.Submitter() != spark.Kyuubi {
		return "", false
	}
	app, tag := driver.Labels[appNameLabel], driver.Labels[spark.KyuubiTagLabel]
	if len(app) > maxLabel || len(tag) > maxLabel { // at admission labels are not validated yet
		return "", true
	}
	if !driver.IsKyuubiEngine() || !driver.IsShared() || !strings.HasPrefix(app, "kyuubi-") {
		return "", true
	}
	for n := len(tag); n > 0; n-- {
		if space, cut := strings.CutSuffix(app, "-"+tag[:n]); cut {
			return objectName(space), true
		}
	}
	return "", true
}

var (
	// timeStamp is what an operator adds for each run. kubeflow's adds the nanoseconds since
	// 1970 (scheduledsparkapplication/controller.go). Others add seconds, minutes or a date.
	timeStamp = regexp.MustCompile(`-+([0-9]{8,19}|[0-9]{4}-[0-9]{2}-[0-9]{2})$`)
	// generated is what the API server adds for generateName (apiserver/pkg/storage/names).
	// No word is of these letters only.
	generated = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	// random is what Airflow adds (add_unique_suffix), or a UUID. Nearly all have a digit.
	random = regexp.MustCompile(`(-[a-z0-9]{8}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	digit  = regexp.MustCompile(`[0-9]`)
)

// withoutRun returns the part of a name that all runs have in common, or "" if the name
// shows that another run has another name.
func withoutRun(name string) string {
	if job := withoutTime(name); job != name {
		return job
	}
	if generated.MatchString(name) || digit.MatchString(random.FindString(name)) {
		return ""
	}
	return name
}

func withoutTime(name string) string { return timeStamp.ReplaceAllString(name, "") }

// objectName returns a text as the name of an object, or "" if nothing of it fits.
func objectName(text string) string {
	text = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(text))
	parts := strings.Split(text, ".")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], "-")
	}
	name := strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ".")
	if annotations.CheckJob(name) != nil {
		return ""
	}
	return name
}
