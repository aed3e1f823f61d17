package policy

import (
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// A suspect is a probe that may harm Spark, with what must be known to judge it.
type suspect struct {
	role  spark.Role
	name  ProbeName
	probe *corev1.Probe
	// asks is the port of Spark's that it asks, by the name that Spark gives it;
	// "" for exec and for a port that is not Spark's.
	asks string
	// gated: a startup probe holds it back until Spark has answered once.
	gated bool
	// mayBeUnready: nobody is harmed when the pod is not Ready.
	mayBeUnready bool
	// unknownPort is a named port that the container does not declare.
	unknownPort string
	listens     bool // an executor's block manager, on the port that is asked
	connect     bool // the driver is a Spark Connect server
	ours        bool // a probe of a rule
}

// Harm says what a probe of Spark's container will do to Spark, with the remedy;
// "" where it is harmless or cannot be judged. published says that the driver's
// Service publishes addresses that are not ready.
func Harm(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) string {
	probe = probe.DeepCopy()
	setDefaults(probe)
	s := suspect{
		role: pod.Role, name: name, probe: probe,
		gated:        name == Liveness && pod.Container().StartupProbe != nil,
		mayBeUnready: pod.Role == spark.Executor || published || findsDriverByIP(pod.Version()),
		connect:      pod.MainClass() == connectServer,
	}
	number, port := Target(probe)
	s.asks = askedOnPod(pod, number, port)
	if port != "" && pod.PortIndex(port) < 0 {
		s.unknownPort = port
	}
	if s.asks == spark.BlockManagerPort && port != "" {
		number, _ = pod.Port(port)
	}
	listening, ok := pod.BlockManager()
	s.listens = ok && listening == number
	return s.judge()
}

const connectServer = "org.apache.spark.sql.connect.service.SparkConnectServer"

// Since 4.3 executors use the driver's IP (SPARK-57351); a version that cannot
// be read counts as older.
func findsDriverByIP(version string) bool {
	v := sparkVersion(version)
	return v != nil && (v.Major() > 4 || v.Major() == 4 && v.Minor() >= 3)
}

// askedOnPod is the name that Spark gives the port. An executor's 7079 is its
// block manager's even when a rule has declared another.
func askedOnPod(pod spark.Pod, number int32, port string) string {
	for _, name := range sparkPorts {
		declared, ok := pod.Port(name)
		if port == name || ok && declared == number {
			return name
		}
	}
	if pod.Role == spark.Executor && number == spark.DefaultPorts[spark.BlockManagerPort] {
		return spark.BlockManagerPort
	}
	return ""
}

var sparkPorts = []string{spark.RPCPort, spark.UIPort, spark.BlockManagerPort, spark.ConnectPort}

// suspect is a probe of the rule before it meets a pod. What it does to the
// driver's DNS name is checked apart, see checkDNS.
func (r *Rule) suspect(name ProbeName, probe *corev1.Probe) suspect {
	number, port := Target(probe)
	s := suspect{
		role: r.Match.Role, name: name, probe: probe, ours: true,
		gated:        name == Liveness && r.Probes.Startup != nil,
		mayBeUnready: true,
		listens:      port != "", // or the probe is left out of the pod
	}
	for _, each := range sparkPorts {
		if port == each || number == spark.DefaultPorts[each] {
			s.asks = each
		}
	}
	if r.Match.MainClass != "" {
		s.connect, _ = path.Match(r.Match.MainClass, connectServer)
	}
	return s
}

func (s suspect) judge() string {
	for _, judge := range judges {
		if text := judge(s); text != "" {
			return text
		}
	}
	return ""
}

// ends tells whether the kubelet ends the container when the probe fails.
func (s suspect) ends() bool {
	return s.name == Liveness || s.name == Startup && s.probe.FailureThreshold < NeverGivesUp
}

// seconds until the kubelet ends the container, from its start or from the time
// when Spark stops to answer.
func (s suspect) seconds() int64 {
	return int64(s.probe.InitialDelaySeconds) + int64(s.probe.PeriodSeconds)*int64(s.probe.FailureThreshold)
}

func (s suspect) asksDriver() bool {
	return s.role == spark.Driver && (s.asks == spark.UIPort || s.asks == spark.RPCPort)
}

func (s suspect) orphans() string {
	if s.role == spark.Driver {
		return ": it has no DNS name, and its executors die of UnknownHostException"
	}
	return ""
}

func (s suspect) consequence() string {
	if s.ends() {
		return fmt.Sprintf(", and ends the %s", s.role)
	}
	return ", so the driver is never Ready" + s.orphans()
}
