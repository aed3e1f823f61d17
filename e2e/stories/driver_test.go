package stories

import (
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

// driverEnd is how Spark's container of the driver ended; nil if it has not.
func (r *run) driverEnd() (ended *corev1.ContainerStateTerminated) {
	r.Look(func(h *lab.History) { ended = h.Driver().Terminated() })
	return ended
}

// killed tells whether the kubelet ended the driver because a probe said so.
func (r *run) killed() (killed bool) {
	r.Look(func(h *lab.History) { killed = len(h.Events(h.Driver().Last)["Killing"]) > 0 })
	return killed
}

// The JVM of a driver and of an executor, by their command lines.
const driverJVM, executorJVM = "org.apache.spark.deploy.SparkSubmit", "KubernetesExecutorBackend"

func freeze(t *testing.T, pod *corev1.Pod) { signal(t, pod, syscall.SIGSTOP) }
func thaw(t *testing.T, pod *corev1.Pod)   { signal(t, pod, syscall.SIGCONT) }

func signal(t *testing.T, pod *corev1.Pod, signal syscall.Signal) {
	t.Helper()
	jvm := driverJVM
	if pod.Labels["spark-role"] == "executor" {
		jvm = executorJVM
	}
	if _, err := lab.Signal(pod, jvm, signal); err != nil {
		t.Fatal(err)
	}
}
