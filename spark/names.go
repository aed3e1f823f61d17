package spark

// Labels that Spark puts on its pods (Constants.scala). Spark's configuration cannot
// override them; anyone who may create pods can forge them.
const (
	RoleLabel         = "spark-role"         // driver or executor
	ApplicationLabel  = "spark-app-selector" // the application's id, the same on driver, executors and Services
	VersionLabel      = "spark-version"      // of the Spark that made the pod, "3.5.9"
	ExecutorIDLabel   = "spark-exec-id"      // a number, or EXECID until the executor has registered
	UnknownExecutorID = "EXECID"             // written by the statefulset and deployment allocators
	DriverContainer   = "spark-kubernetes-driver"
	ExecutorContainer = "spark-kubernetes-executor"
)

// Names of the ports that Spark declares on its containers. A declared port may not be
// listened on: see [Pod.Port].
const (
	RPCPort          = "driver-rpc-port" // driver; opened first, before executors are asked for
	BlockManagerPort = "blockmanager"    // both
	UIPort           = "spark-ui"        // driver; declared even with spark.ui.enabled=false
	ConnectPort      = "spark-connect"   // every driver since Spark 4.1, served only by a Connect server
)

// Environment variables that Spark sets on its own container and on no other.
const (
	driverEnv           = "SPARK_DRIVER_BIND_ADDRESS"
	executorEnv         = "SPARK_EXECUTOR_ID"
	driverMemoryEnv     = "SPARK_DRIVER_MEMORY"
	JavaOptionEnvPrefix = "SPARK_JAVA_OPT_"
)

// apacheOperatorLabel is a label of apache/spark-kubernetes-operator. Its API group was
// org.apache.spark before the first release.
const apacheOperatorLabel = "spark.operator/spark-app-name"

var apacheOperatorGroups = []string{"spark.apache.org", "org.apache.spark"}
