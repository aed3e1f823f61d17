package spark

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Application returns the id of the Spark application: "spark-" and 32 hexadecimal
// digits unless spark.app.id sets another one, or "" if the label is missing.
func (p Pod) Application() string { return p.Labels[ApplicationLabel] }

// MainClass returns the class that the driver runs with --class, such as
// "org.apache.spark.deploy.PythonRunner" for Python, or "" for executors.
func (p Pod) MainClass() string { return readSubmitArgs(p.Container().Args).class }

// Language is the language of the driver's program, as its main class shows.
type Language string

// The languages by which Spark divides a driver's memory.
const (
	JVM    Language = "JVM"
	Python Language = "Python"
	R      Language = "R"
	// Unknown is the language of a server that runs its users' programs, and of a pod
	// that does not show it. Spark divides its memory as for the JVM's.
	Unknown Language = ""
)

// Language returns the language of the driver's program. Executors do not show it.
func (p Pod) Language() Language {
	switch p.MainClass() {
	case "org.apache.spark.deploy.PythonRunner":
		return Python
	case "org.apache.spark.deploy.RRunner":
		return R
	case "", // an executor, or a driver that spark-submit did not make
		"org.apache.livy.rsc.driver.RSCDriverBootstrapper",
		KyuubiEngineClass,
		"org.apache.spark.sql.connect.service.SparkConnectServer":
		return Unknown
	}
	return JVM
}

// DriverRef names the driver of an executor.
type DriverRef struct {
	types.NamespacedName
	UID types.UID
}

// Driver returns the pod that owns an executor, which is its driver. ok is false for a
// driver, for an executor that a StatefulSet or Deployment owns, and for an executor
// of a driver that does not run in a pod that Spark made.
func (p Pod) Driver() (ref DriverRef, ok bool) {
	owner := metav1.GetControllerOf(p)
	if p.Role != Executor || owner == nil || owner.Kind != "Pod" || owner.APIVersion != "v1" {
		return DriverRef{}, false
	}
	return DriverRef{types.NamespacedName{Namespace: p.Namespace, Name: owner.Name}, owner.UID}, true
}

// OwnedByApacheOperator reports whether apache/spark-kubernetes-operator runs the
// application. It reads the readiness of driver and executors, and ends an application
// if its pods are not ready in time.
func (p Pod) OwnedByApacheOperator() bool {
	if _, ok := p.Labels[apacheOperatorLabel]; ok {
		return true
	}
	return slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool {
		gv, err := schema.ParseGroupVersion(o.APIVersion)
		return err == nil && slices.Contains(apacheOperatorGroups, gv.Group)
	})
}

// FromWorkload reports whether a StatefulSet or Deployment made the executor
// (spark.kubernetes.allocation.pods.allocator). Such pods restart in place and
// do not know their executor id.
func (p Pod) FromWorkload() bool {
	return p.Role == Executor && strings.EqualFold(p.Labels[ExecutorIDLabel], UnknownExecutorID)
}
