package policy

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/spark"
)

// patience is how long a probe that can end a container must bear with Spark
// before it does: ten minutes, which is what Spark itself gives a peer that has
// gone silent (60 heartbeats of 10 s) and what slow starts need.
const patience = 600 // seconds

// shortestPause is the same for a check of ours that asks the driver from
// inside: a collection of garbage or a heap dump takes minutes.
const shortestPause = 120 // seconds

// judges in the order of what they are sure of; the first that speaks decides.
var judges = []func(suspect) string{
	noSuchPort, noGRPC, wrongBlockManager, lateOrNever, endsExecutor, endsStarting, endsRunning, endsPausing, losesDNS,
}

// The kubelet throws away the result of a probe whose port it cannot find, so
// the container never starts or never gets ready, and is never ended.
func noSuchPort(s suspect) string {
	if s.unknownPort == "" || s.name == Liveness || s.mayBeUnready {
		return ""
	}
	return fmt.Sprintf("the container declares no port %q, so the pod is never Ready%s; name a port that it declares", s.unknownPort, s.orphans())
}

// Spark registers no gRPC health service, nor does Spark Connect (4.0 source).
func noGRPC(s suspect) string {
	if s.probe.GRPC == nil || s.role != spark.Driver || s.asks == "" || !s.ends() && s.mayBeUnready {
		return ""
	}
	return "Spark serves no gRPC health protocol, so this fails for ever" + s.consequence() + "; use tcpSocket"
}

// An executor declares its block manager's port, 7079 unless the user chose one,
// and listens on a random one unless he did, or a rule.
func wrongBlockManager(s suspect) string {
	if s.role != spark.Executor || s.asks != spark.BlockManagerPort || s.listens || !s.ends() {
		return ""
	}
	return "executors declare this port and listen on a random one, so this ends every executor; set spark.blockManager.port, or remove the probe"
}

// What a driver declares and opens late, on another port, or not at all.
func lateOrNever(s suspect) string {
	late := s.asks == spark.BlockManagerPort || s.asks == spark.ConnectPort && !s.connect
	if s.role != spark.Driver || !late || s.gated || !s.ends() && s.mayBeUnready {
		return ""
	}
	return fmt.Sprintf("a driver opens port %s late, elsewhere or never%s; use port %s", s.asks, s.consequence(), spark.RPCPort)
}

// An executor's port opens when the driver has accepted it.
func endsExecutor(s suspect) string {
	if s.role != spark.Executor || s.asks != spark.BlockManagerPort || !s.ends() || s.seconds() >= patience {
		return ""
	}
	return fmt.Sprintf("ends an executor that has not registered within %d s, which counts as a failure of the application; allow %d s or more, or remove the probe: Spark's heartbeat does this", s.seconds(), patience)
}

// Neither the UI nor the RPC port is there while user code works before it makes
// its SparkContext, and a UI can be off.
func endsStarting(s suspect) string {
	if !s.asksDriver() || !s.ends() || s.gated || s.name == Startup && s.seconds() >= patience {
		return ""
	}
	return fmt.Sprintf("ends a driver that has no SparkContext, or no UI, %d s after its start; use a startupProbe with failureThreshold: %d, and a livenessProbe that allows %d s or more",
		s.seconds(), NeverGivesUp, patience)
}

// From spark.stop() on both ports are closed, and the driver may go on for long.
func endsRunning(s suspect) string {
	if !s.asksDriver() || s.name != Liveness || s.seconds() >= patience {
		return ""
	}
	pause := ""
	if s.probe.HTTPGet != nil {
		pause = ", or in a pause for garbage as long"
	}
	return fmt.Sprintf("ends a driver %d s after spark.stop()%s; allow %d s or more", s.seconds(), pause, patience)
}

// The user's own exec cannot be judged; ours asks a driver that may be pausing.
func endsPausing(s suspect) string {
	if !s.ours || s.role != spark.Driver || s.name != Liveness || s.probe.Exec == nil || s.seconds() >= shortestPause {
		return ""
	}
	return fmt.Sprintf("ends a driver that pauses for %d s, to collect garbage or write a heap dump; allow %d s or more", s.seconds(), shortestPause)
}

func losesDNS(s suspect) string {
	seconds := int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.SuccessThreshold)
	if s.role != spark.Driver || s.name == Liveness || s.mayBeUnready || seconds <= dnsSeconds {
		return ""
	}
	return fmt.Sprintf("the driver can be unready for %d s after its start%s; set initialDelaySeconds: 0, periodSeconds: 1", seconds, s.orphans())
}
