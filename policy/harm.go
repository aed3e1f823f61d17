package policy

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/spark"
)

// minSeconds is how long a probe that can end a container must wait for Spark to
// answer: ten minutes. Spark itself gives a silent peer that long (60 heartbeats of 10
// s), and slow starts need it.
const minSeconds = 600 // seconds

// minPauseSeconds is the same for an injected check that calls the driver from inside:
// a garbage collection or a heap dump takes minutes.
const minPauseSeconds = 120 // seconds

// operatorSeconds is how long apache/spark-kubernetes-operator waits until a
// driver is Ready before it ends the application (driverReadyTimeoutMillis).
const operatorSeconds = 300 // seconds

// dnsSeconds is how long a driver may be unready after its RPC port opened. Spark
// waits one second for readiness and then creates executors
// (spark.kubernetes.allocation.driver.readinessTimeout). Once its JVM runs, each looks
// for the driver by its DNS name. An unready driver has none, and the executor dies.
// Measured: with 2 s none was lost, with 5 s one was.
const dnsSeconds = 2

// verdict is the result of a check of a probe. It has no text if the check found
// nothing.
type verdict struct {
	text string
	// certain is true if the probe harms Spark on each such pod. Otherwise that
	// depends on what the pod does not show, or the probe is harmless but of no use.
	certain bool
	// ends is true if the probe ends a container. Otherwise a pod is not Ready.
	ends bool
}

// checks are in the order of how certain they are. The first finding decides.
var checks = []func(probeCase) verdict{
	noSuchPort, noListener, wrongProtocol, lateOrNever, endsExecutor, endsStarting, endsRunning, endsPausing, tooLateForOperator, losesDNS,
}

// noSuchPort finds a probe of a port that the kubelet cannot find. It discards the result,
// so the probe ends nothing and never succeeds.
func noSuchPort(s probeCase) verdict {
	const remedy = "name a port that the container declares, or write the number"
	switch {
	case s.unknownPort == "":
		return verdict{}
	case s.name == Liveness:
		return verdict{text: fmt.Sprintf("the container declares no port %q, so the kubelet cannot run this probe and it never acts; %s", s.unknownPort, remedy)}
	}
	return s.neverReady(fmt.Sprintf("the container declares no port %q", s.unknownPort), remedy)
}

// noListener finds a probe on a port without a listener. An executor listens only at
// its block manager. It declares 7079 for it unless the user chose another port, and
// listens on a random port unless the user or a rule chose one. A driver listens on
// the ports that it declares.
func noListener(s probeCase) verdict {
	if s.rule != nil && !s.ends() {
		return verdict{} // such a probe is not injected into pods that do not listen there
	}
	switch elsewhere := s.listensOn > 0 && s.listensOn != s.number; {
	case s.role == spark.Executor && s.targetPort != "" && s.targetPort != spark.BlockManagerPort:
		return s.neverSucceeds("only a driver listens on "+s.port(), "remove the probe from executors")
	case s.role == spark.Executor && s.targetPort != "" && elsewhere:
		return s.neverSucceeds(fmt.Sprintf("the executor listens on port %d, and not on %s", s.listensOn, s.port()), s.rightPort(spark.BlockManagerPort)+", or remove the probe")
	case s.role == spark.Executor && s.targetPort != "" && s.listensOn != s.number:
		return s.neverSucceeds("an executor declares this port and listens on a random one", "set spark.blockManager.port, or remove the probe")
	case s.role == spark.Driver && s.targetPort != spark.BlockManagerPort && elsewhere:
		v := s.neverSucceeds(fmt.Sprintf("the driver declares %s at %d, so most likely nothing listens on %d", s.targetPort, s.listensOn, s.number), s.rightPort(s.targetPort))
		v.certain = false // the program may listen there, and Spark's port be moved for it
		return v
	}
	return verdict{}
}

// wrongProtocol finds a probe with a protocol that the port does not speak. Spark has
// no gRPC health service, nor does Spark Connect (4.0 source), and only its UI speaks
// HTTP.
func wrongProtocol(s probeCase) verdict {
	switch {
	case s.targetPort == "":
	case s.probe.GRPC != nil:
		return s.neverSucceeds("Spark serves no gRPC health protocol", "use tcpSocket")
	case s.probe.HTTPGet != nil && s.targetPort != spark.UIPort:
		return s.neverSucceeds(s.port()+" does not speak HTTP", "use tcpSocket")
	}
	return verdict{}
}

// lateOrNever finds a probe of something that a driver opens late, on another port
// than it declares, or not at all. A user knows whether a driver serves Spark Connect,
// which any driver can (SparkConnectPlugin); a rule does not.
func lateOrNever(s probeCase) verdict {
	late := s.targetPort == spark.BlockManagerPort || s.targetPort == spark.ConnectPort && s.rule != nil && !s.rule.isConnect()
	if s.role != spark.Driver || !late || s.gated || !s.ends() && s.mayBeUnready {
		return verdict{}
	}
	why := fmt.Sprintf("a driver opens %s late, or listens on another port", s.port())
	if s.targetPort == spark.ConnectPort {
		why = fmt.Sprintf("a driver listens on %s only if it serves Spark Connect", s.port())
	}
	v := s.neverSucceeds(why, "use port "+spark.RPCPort)
	v.certain = v.certain && s.ends() && s.seconds() < minSeconds
	return v
}

// endsExecutor finds a probe that ends an executor before its driver has accepted it.
// Its port opens only then.
func endsExecutor(s probeCase) verdict {
	if s.role != spark.Executor || s.targetPort != spark.BlockManagerPort || !s.ends() || s.seconds() >= minSeconds {
		return verdict{}
	}
	return ends(true, "this probe ends an executor that has not registered within %d s, which Spark counts as a failure of the application. Remove the probe, because Spark itself replaces executors that end or no longer answer, or "+allow, s.seconds(), minSeconds)
}

// endsStarting finds a probe that ends a driver before its port opens. No port is open
// while user code runs before its SparkContext, and a UI can be off.
func endsStarting(s probeCase) verdict {
	missing := map[string]string{spark.UIPort: "has no SparkContext, or no UI,", spark.RPCPort: "has no SparkContext", spark.ConnectPort: "does not serve Spark Connect"}[s.targetPort]
	if s.role != spark.Driver || missing == "" || !s.ends() || s.gated {
		return verdict{}
	}
	hasty := s.seconds() < minSeconds
	if !hasty && (s.name == Startup || s.targetPort == spark.ConnectPort) {
		return verdict{}
	}
	remedy := fmt.Sprintf("set failureThreshold: %d, or "+allow, NeverGivesUp, minSeconds)
	if s.name == Liveness {
		remedy = fmt.Sprintf("add a startupProbe on the same port with failureThreshold: %d", NeverGivesUp)
		if hasty {
			remedy += fmt.Sprintf(", and "+allow, minSeconds)
		}
	}
	return ends(hasty && s.targetPort != spark.ConnectPort, "this probe ends a driver that %s %d s after its start; %s", missing, s.seconds(), remedy)
}

// endsRunning finds a probe that ends a driver after spark.stop(). Its ports are then
// closed, and it may run for long.
func endsRunning(s probeCase) verdict {
	if s.role != spark.Driver || s.targetPort != spark.UIPort && s.targetPort != spark.RPCPort || s.name != Liveness || s.seconds() >= minSeconds {
		return verdict{}
	}
	pause := ""
	if s.probe.HTTPGet != nil {
		pause = ", or that pauses as long to collect garbage"
	}
	// Most programs end soon after it; whether this one does, its owner knows. A rule
	// meets drivers of all kinds.
	return ends(s.rule != nil || s.seconds() < minPauseSeconds, "this probe ends a driver that still works %d s after spark.stop()%s; "+allow, s.seconds(), pause, minSeconds)
}

// endsPausing finds an injected exec probe that ends a driver while it pauses. A
// user's own exec cannot be judged.
func endsPausing(s probeCase) verdict {
	if s.rule == nil || s.role != spark.Driver || s.name != Liveness || s.probe.Exec == nil || s.seconds() >= minPauseSeconds {
		return verdict{}
	}
	return ends(true, "this probe ends a driver that pauses for %d s, to collect garbage or write a heap dump; "+allow, s.seconds(), minPauseSeconds)
}

// tooLateForOperator finds a probe that makes a driver Ready so late that the operator
// ends it. It is not certain, because the operator's limit can be raised.
func tooLateForOperator(s probeCase) verdict {
	soonest := int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.SuccessThreshold-1)
	if !s.operated || s.name == Liveness || soonest < operatorSeconds {
		return verdict{}
	}
	return verdict{text: fmt.Sprintf("the driver is Ready no sooner than %d s after its start, and apache/spark-kubernetes-operator ends an application whose driver is not Ready within %d s. Set initialDelaySeconds: 0, or raise driverReadyTimeoutMillis",
		soonest, operatorSeconds)}
}

// losesDNS checks whether a driver keeps its DNS name. It is the only such check, for
// rules, settings and users' probes: a driver may be unready for dnsSeconds after its
// start. A rule meets drivers of all kinds, so each healthy driver must also answer
// its probe, unless the driver's Service publishes addresses that are not ready.
func losesDNS(s probeCase) verdict {
	if s.role != spark.Driver || s.name == Liveness || s.mayBeUnready {
		return verdict{}
	}
	if seconds := int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.SuccessThreshold); seconds > dnsSeconds {
		return verdict{certain: true, text: fmt.Sprintf("the driver can be unready for %d s after its start; %s; set initialDelaySeconds: 0, periodSeconds: 1", seconds, orphans)}
	}
	if s.rule != nil && !s.rule.PublishNotReadyAddresses && s.targetPort != spark.RPCPort {
		return verdict{certain: true, text: "a healthy driver need not answer this, for example if its UI is off; " + orphans + "; use tcpSocket with port: " + spark.RPCPort + ", or set publishNotReadyAddresses: true"}
	}
	return verdict{}
}

// allow is a remedy, with the seconds.
const allow = "allow %d s or more (initialDelaySeconds + periodSeconds * failureThreshold)"

const orphans = "an unready driver has no DNS name, so its executors fail with UnknownHostException"

func ends(certain bool, format string, args ...any) verdict {
	return verdict{text: fmt.Sprintf(format, args...), certain: certain, ends: true}
}

// neverSucceeds returns the verdict on a probe that always fails.
func (s probeCase) neverSucceeds(why, remedy string) verdict {
	if !s.ends() {
		return s.neverReady(why, remedy)
	}
	each := "the driver"
	if s.role == spark.Executor {
		each = "each executor"
	}
	return ends(true, "%s, so this probe ends %s after %d s; %s", why, each, s.seconds(), remedy)
}

// neverReady returns the verdict on a probe that always fails and ends nothing.
func (s probeCase) neverReady(why, remedy string) verdict {
	why += fmt.Sprintf(", so the %s is never Ready", s.role)
	switch {
	case s.operated:
		return verdict{certain: true, text: fmt.Sprintf("%s, and apache/spark-kubernetes-operator ends the application after %d s; %s", why, operatorSeconds, remedy)}
	case !s.mayBeUnready:
		return verdict{certain: true, text: why + "; " + orphans + "; " + remedy}
	case s.rule != nil:
		return verdict{}
	}
	return verdict{text: why + "; " + remedy}
}

// ends reports whether the kubelet ends the container when the probe fails.
func (s probeCase) ends() bool {
	return s.name == Liveness || s.name == Startup && s.probe.FailureThreshold < NeverGivesUp
}

// seconds returns how long the kubelet waits until it ends the container, from the
// container's start or from when Spark stops answering.
func (s probeCase) seconds() int64 {
	return int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.FailureThreshold)
}

// rightPort returns the remedy for a probe that asks the wrong number.
func (s probeCase) rightPort(name string) string {
	if s.probe.Exec != nil {
		return fmt.Sprintf("ask port %d", s.listensOn)
	}
	return "write port: " + name
}

// port returns the name, for a sentence, of what is asked.
func (s probeCase) port() string {
	if s.number == 0 {
		return "port " + s.targetPort
	}
	return fmt.Sprintf("port %d (%s)", s.number, s.targetPort)
}
