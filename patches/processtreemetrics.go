package patches

import (
	"slices"

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
	if !c.Rule.ProcessTreeMetrics || p.Role != spark.Executor {
		return
	}
	switch {
	case slices.Contains(p.JavaOptions(), option) && p.wasSet(field):
	case p.mentions(key):
		p.leave(field, "the user's own")
		return
	case len(p.Container().Command) > 0:
		p.leave(field, "the container has a command of its own")
		return
	case spark.ParseVersion(p.Version()) == nil:
		p.leave(field, "the label "+spark.VersionLabel+" has no version that can be read")
		return
	case !p.IsAtLeast("3.5.7") || p.IsAtLeast("4.0") && !p.IsAtLeast("4.0.1"):
		p.leave(field, "this version of Spark measures wrongly (SPARK-52776)")
		return
	case !p.IsAtLeast("4.0"):
		p.leave(field, "with Spark 3.5 an executor without bash in its image would be lost")
		return
	default:
		p.addEnv(p.nextJavaOption(), option)
	}
	p.did(field, "the executor tells its driver how much memory its JVM, its Python processes and others use")
}
