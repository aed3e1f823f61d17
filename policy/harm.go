package policy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// patience is how long a probe that can end a container must bear with Spark
// before it does: ten minutes, which is what Spark itself gives a peer that has
// gone silent (60 heartbeats of 10 s) and what slow starts need.
const patience = 600 // seconds

// A suspect is a probe of the user's own on Spark's container.
type suspect struct {
	pod   spark.Pod
	name  ProbeName
	probe *corev1.Probe
	// published says that the driver keeps its DNS name when it is not ready.
	published bool
}

// Harm says what a probe of the user's own will do to Spark, each with the
// remedy; nothing where it is harmless or cannot be judged, as with exec.
// published says that the driver's Service publishes addresses that are not ready.
func Harm(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) []Warning {
	probe = probe.DeepCopy()
	setDefaults(probe)
	s := suspect{pod, name, probe, published}
	for _, judge := range judges {
		if text := judge(s); text != "" {
			field := fmt.Sprintf("spec.containers[%s].%s", pod.Container().Name, name.Field())
			return []Warning{{HarmfulProbe, field, text}}
		}
	}
	return nil
}

// judges in the order of what they are sure of; the first that speaks decides.
var judges = []func(suspect) string{
	noSuchPort, noGRPC, wrongBlockManager, lateOrNever, endsTooSoon, losesDNS,
}

// The kubelet throws away the result of a probe whose port it cannot find, so
// the container never starts or never gets ready, and is never ended.
func noSuchPort(s suspect) string {
	_, port := Target(s.probe)
	if port == "" || s.pod.PortIndex(port) >= 0 || s.name == Liveness || s.mayBeUnready() {
		return ""
	}
	return fmt.Sprintf("the container declares no port %q, so the pod is never Ready%s; name a port that it declares", port, s.orphans())
}

// Spark registers no gRPC health service, nor does Spark Connect (4.0 source).
func noGRPC(s suspect) string {
	if s.probe.GRPC == nil || !s.ends() && s.mayBeUnready() {
		return ""
	}
	return "Spark serves no gRPC health protocol, so this fails for ever" + s.consequence() + "; use tcpSocket"
}

// An executor declares its block manager's port, 7079 unless the user chose one,
// and listens on a random one unless he did, or a rule.
func wrongBlockManager(s suspect) string {
	if s.pod.Role != spark.Executor || !s.ends() {
		return ""
	}
	number, name := Target(s.probe)
	if name == spark.BlockManagerPort {
		number, _ = s.pod.Port(name)
	} else if number != spark.DefaultBlockManagerPort {
		return ""
	}
	if listening, ok := s.pod.BlockManager(); ok && listening == number {
		return ""
	}
	return fmt.Sprintf("executors declare port %d and listen on another, so this ends every executor; set spark.blockManager.port, or remove the probe", number)
}

// What a driver declares and opens late, on another port, or not at all.
func lateOrNever(s suspect) string {
	_, port := Target(s.probe)
	isConnect := s.pod.MainClass() == "org.apache.spark.sql.connect.service.SparkConnectServer"
	if s.pod.Role != spark.Driver || !s.ends() && s.mayBeUnready() ||
		port != spark.BlockManagerPort && (port != spark.ConnectPort || isConnect) {
		return ""
	}
	return fmt.Sprintf("a driver opens port %q late, elsewhere or never%s; use port %s", port, s.consequence(), spark.RPCPort)
}

// endsTooSoon: HTTP and TCP fail while a driver has not made its SparkContext,
// when its UI is off, and from spark.stop() on; HTTP also in a long pause for
// garbage. An executor's port opens when the driver has accepted it.
func endsTooSoon(s suspect) string {
	if !s.ends() || s.probe.Exec != nil {
		return ""
	}
	seconds := int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.FailureThreshold)
	if seconds >= patience {
		return ""
	}
	if s.pod.Role == spark.Executor {
		return fmt.Sprintf("ends an executor that has not registered within %d s, which counts as a failure of the application; allow %d s or more, or remove the probe: Spark's heartbeat does this", seconds, patience)
	}
	if s.name == Liveness && s.pod.Container().StartupProbe != nil {
		return fmt.Sprintf("ends a driver %d s after spark.stop(), or in a pause for garbage as long; allow %d s or more", seconds, patience)
	}
	return fmt.Sprintf("ends a driver that has no SparkContext, or no UI, %d s after its start; use a startupProbe with failureThreshold: %d", seconds, NeverGivesUp)
}

func losesDNS(s suspect) string {
	seconds := int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.SuccessThreshold)
	if s.pod.Role != spark.Driver || s.name == Liveness || s.mayBeUnready() || seconds <= dnsSeconds {
		return ""
	}
	return fmt.Sprintf("the driver can be unready for %d s after its start%s; set initialDelaySeconds: 0, periodSeconds: 1", seconds, s.orphans())
}

// ends tells whether the kubelet ends the container when the probe fails.
func (s suspect) ends() bool { return s.name != Readiness }

// mayBeUnready: nothing looks for an unready executor. A driver keeps its DNS
// name where its Service publishes it; since 4.3 executors use its IP (SPARK-57351).
func (s suspect) mayBeUnready() bool {
	if s.pod.Role == spark.Executor || s.published {
		return true
	}
	v := sparkVersion(s.pod.Version())
	return v != nil && (v.Major() > 4 || v.Major() == 4 && v.Minor() >= 3)
}

func (s suspect) orphans() string {
	if s.pod.Role == spark.Driver {
		return ": it has no DNS name, and its executors die of UnknownHostException"
	}
	return ""
}

func (s suspect) consequence() string {
	if !s.ends() {
		return ", so the driver is never Ready" + s.orphans()
	}
	return fmt.Sprintf(", and ends the %s", s.pod.Role)
}
