package stories

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// driverEnd returns how Spark's container of the driver ended, or nil.
func (r *run) driverEnd() (ended *corev1.ContainerStateTerminated) {
	r.Look(func(h *lab.History) { ended = h.Driver().Terminated() })
	return ended
}

// killed reports whether the kubelet ended the driver because of a probe.
func (r *run) killed() (killed bool) {
	r.Look(func(h *lab.History) { killed = h.Killed(h.Driver()) })
	return killed
}

// ready reports whether the driver is Ready.
func (r *run) ready() (ready bool) {
	r.Look(func(h *lab.History) { ready = h.Driver().IsReady() })
	return ready
}

// The JVMs of a driver and of an executor, by their command lines.
const driverJVM, executorJVM = "org.apache.spark.deploy.SparkSubmit", "KubernetesExecutorBackend"

// freeze stops the JVM of a pod once it exists, and returns the time just before.
func freeze(t *testing.T, pod *corev1.Pod) (since time.Time) {
	t.Helper()
	eventually.Succeeds(t, "the pod has a JVM", func(context.Context) error {
		since = time.Now()
		return signalJVM(pod, syscall.SIGSTOP)
	})
	return since
}

// untilHealthy waits until the driver passes a liveness check. On a busy machine some
// may fail while it starts.
func (r *run) untilHealthy(t *testing.T) {
	t.Helper()
	driver, before := r.driverPod(t), -1
	eventually.Succeeds(t, "the driver passes a liveness check", func(context.Context) error {
		passed, failed, err := theLab.Probed(t.Context(), driver, "Liveness")
		if err != nil {
			return err
		}
		if before < 0 {
			before = passed
		}
		if r.failed = failed; passed == before {
			return fmt.Errorf("it has passed %d and failed %d", passed, failed)
		}
		return nil
	})
}

func thaw(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := signalJVM(pod, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func signalJVM(pod *corev1.Pod, signal syscall.Signal) error {
	jvm := driverJVM
	if pod.Labels[spark.RoleLabel] == string(spark.Executor) {
		jvm = executorJVM
	}
	_, err := lab.Signal(pod, "java", jvm, signal)
	return err
}

// untilListening waits until a port of the driver is open.
func (r *run) untilListening(t *testing.T, port int) {
	t.Helper()
	eventually.Succeeds(t, fmt.Sprintf("port %d is open", port), func(context.Context) error {
		ip := r.driverPod(t).Status.PodIP
		if ip == "" {
			return errors.New("the driver has no address yet")
		}
		address := net.JoinHostPort(ip, strconv.Itoa(port))
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			connection.Close()
		}
		return err
	})
}
