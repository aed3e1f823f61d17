package spark

import "strings"

// Submitter is what made the application. It decides how a user sets Spark's
// configuration.
type Submitter string

// The submitters that leave a sign on a driver's pod.
const (
	SparkSubmit    Submitter = "spark-submit"              // no sign of another
	Kyuubi         Submitter = "Kyuubi"                    // an engine of Apache Kyuubi
	Livy           Submitter = "Livy"                      // a session or batch of Apache Livy
	Kubeflow       Submitter = "kubeflow/spark-operator"   // a SparkApplication of sparkoperator.k8s.io
	ApacheOperator Submitter = "spark-kubernetes-operator" // a SparkApplication of spark.apache.org
)

// KyuubiTagLabel is the label that Kyuubi puts on the drivers that it launches, and on
// no executor (KyuubiApplicationManager.scala).
const KyuubiTagLabel = "kyuubi-unique-tag"

// Labels that others put on drivers: Livy's SparkApp.scala ("livy-session-0-abcd1234"), kubeflow's pkg/common/label.go.
const (
	livyTagLabel     = "spark-app-tag"
	kubeflowAppLabel = "sparkoperator.k8s.io/app-name"
	appNameLabel     = "spark-app-name" // since Spark 3.3
)

// KyuubiEngineClass is the main class of an engine that serves sessions. A batch has
// the main class of its user.
const KyuubiEngineClass = "org.apache.kyuubi.engine.spark.SparkSQLEngine"

// IsKyuubiEngine reports whether a driver serves the connections of Kyuubi's users.
// Kyuubi's other drivers are batches.
func (p Pod) IsKyuubiEngine() bool {
	return p.Submitter() == Kyuubi && p.MainClass() == KyuubiEngineClass
}

// IsShared reports whether a driver is an engine that serves many connections. An
// engine of share level CONNECTION has it in its name, unless its user chose another
// name (EngineRef.scala, defaultEngineName).
func (p Pod) IsShared() bool {
	return p.IsKyuubiEngine() && !strings.HasPrefix(p.Labels[appNameLabel], "kyuubi-connection-")
}

// Submitter returns what made a driver's application.
func (p Pod) Submitter() Submitter {
	switch {
	case p.Labels[KyuubiTagLabel] != "":
		return Kyuubi
	case strings.HasPrefix(p.Labels[livyTagLabel], "livy-"):
		return Livy
	case p.Labels[kubeflowAppLabel] != "":
		return Kubeflow
	case p.OwnedByApacheOperator():
		return ApacheOperator
	}
	return SparkSubmit
}
