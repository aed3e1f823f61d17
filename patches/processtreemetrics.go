package patches

import (
	"slices"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// processTreeMetrics makes an executor measure the resident memory of its JVM, its
// Python processes and all others, and send it to its driver with each heartbeat. The
// recorder asks the driver for the peaks after a death. On 4.1.4 with four Python
// processes that held 958 MiB, the driver showed 960 MiB.
//
// It adds one more variable SPARK_JAVA_OPT_n, which every entrypoint of Spark's collects.
// A value in the application's own configuration does not show in the pod, and overrides
// this one: the executor sets all properties that its driver sends
// (CoarseGrainedExecutorBackend.scala).
//
// It leaves the pod alone if
//   - a variable of the container mentions the option: the user has chosen;
//   - the container has a command of its own, which need not collect the variables;
//   - the label spark-version has no version that can be read;
//   - Spark is older than 3.5.7, or 4.0.0: it reads the wrong fields of /proc/PID/stat if
//     the name of a process has a space (SPARK-52776);
//   - Spark is 3.5: it starts bash to find the JVM's process ID, and does not catch the
//     error if the image has no bash. The executor then sends no heartbeat, and the driver
//     removed it after 150 s (3.5.9). Whether an image has bash cannot be seen here.
//
// Spark 4.0.1 and later start only getconf. Without it they run on, and the resident
// memory is 0 (4.3.0).
func processTreeMetrics(p *Pod, c policy.Choice) {
	const (
		field  = "processTreeMetrics"
		key    = "spark.executor.processTreeMetrics"
		option = "-D" + key + ".enabled=true"
	)
	_, asked := p.Annotations[annotations.Prefix+field]
	unfit := p.unfitForProcessTree()
	if !c.Rule.ProcessTreeMetrics || p.Role != spark.Executor || unfit != "" && !asked && !p.wasSet(field) {
		return // that a version is unfit is of interest only to a user who asked
	}
	switch {
	case slices.Contains(p.JavaOptions(), option) && p.wasSet(field):
	case p.mentions(key):
		p.leave(field, "the user's own")
		return
	case len(p.Container().Command) > 0:
		p.leave(field, "the container has a command of its own")
		return
	case unfit != "":
		p.leave(field, unfit)
		return
	default:
		p.addEnv(p.nextJavaOption(), option)
	}
	p.did(field, "the executor tells its driver how much memory its JVM, its Python processes and others use")
}

// unfitForProcessTree says why an executor of this version must not measure processes, or
// "".
func (p *Pod) unfitForProcessTree() string {
	switch {
	case spark.ParseVersion(p.Version()) == nil:
		return "the label " + spark.VersionLabel + " has no version that can be read"
	case !p.IsAtLeast("3.5.7") || p.IsAtLeast("4.0") && !p.IsAtLeast("4.0.1"):
		return "this version of Spark measures wrongly (SPARK-52776)"
	case !p.IsAtLeast("4.0"):
		return "with Spark 3.5 an executor without bash in its image would be lost"
	}
	return ""
}
