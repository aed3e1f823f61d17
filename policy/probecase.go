package policy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// probeCase is a probe of Spark's container, with what the checks must know about it.
type probeCase struct {
	role  spark.Role
	name  ProbeName
	probe *corev1.Probe
	rule  *Rule // that has the probe; nil for a probe of a pod
	// targetPort is the port of Spark that the probe asks, by Spark's name. It is "" for
	// exec and for a port that is not Spark's.
	targetPort string
	number     int32 // of that port; 0 if only its name is known
	// listensOn is the number on which Spark really listens; 0 if it is not known.
	listensOn   int32
	unknownPort string // a named port that the container does not declare
	gated       bool   // a startup probe holds the probe back until Spark has answered once
	// mayBeUnready is true if it harms nothing when the pod is not Ready.
	mayBeUnready bool
	// operated is true if apache/spark-kubernetes-operator ends the application when this
	// driver is not Ready in time.
	operated bool
}

// Harm returns what a probe of Spark's container will do to Spark, with the remedy.
// The kind is HarmfulProbe if that is certain, and DoubtfulProbe otherwise. The text
// is "" for a probe that is harmless or cannot be judged. published is true if the
// driver's Service publishes addresses that are not ready.
func Harm(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) (kind WarningKind, text string) {
	probe = probe.DeepCopy()
	setDefaults(probe)
	s := caseOnPod(pod, name, probe, published)
	v := s.check(nil)
	if number, ok := portInWords(pod, probe); ok && v.text == "" {
		s.setTarget(pod, number)
		if v = s.check(nil); v.text != "" {
			v.certain, v.text = false, fmt.Sprintf("if this command asks port %d of its own container: %s", number, v.text)
		}
	}
	if v.certain && !pod.Spec.HostNetwork { // there another pod may listen on the port
		return HarmfulProbe, v.text
	}
	return DoubtfulProbe, v.text
}

func caseOnPod(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) probeCase {
	s := probeCase{
		role: pod.Role, name: name, probe: probe,
		gated:        name == Liveness && pod.Container().StartupProbe != nil,
		mayBeUnready: pod.Role == spark.Executor || published || pod.IsAtLeast(findsDriverByIP),
		operated:     pod.Role == spark.Driver && pod.OwnedByApacheOperator(),
	}
	number, port := Target(probe)
	if port != "" {
		declared, ok := pod.Port(port)
		if !ok {
			s.unknownPort = port
			return s
		}
		number = declared
	}
	s.setTarget(pod, number)
	return s
}

// setTarget fills in what the pod shows about the port that the probe asks.
func (s *probeCase) setTarget(pod spark.Pod, number int32) {
	s.targetPort, s.number = sparkPort(pod, number), number
	switch {
	case s.targetPort == "":
	case s.targetPort == spark.BlockManagerPort && s.role == spark.Executor:
		s.listensOn, _ = pod.BlockManager()
	case mayBeTLS(pod, number):
		s.listensOn = number
	default:
		s.listensOn, _ = pod.Port(s.targetPort)
	}
}

const connectServer = "org.apache.spark.sql.connect.service.SparkConnectServer"

// findsDriverByIP is the first version of Spark in which executors use the driver's IP
// (SPARK-57351).
const findsDriverByIP = "4.3"

// sparkPort returns Spark's name for the port, or "" if it is not Spark's. Spark's
// numbers count for either role, declared or not, because one pod template may serve
// both roles, and one of Spark before 3.4 loses its ports.
func sparkPort(pod spark.Pod, number int32) string {
	if number == 0 {
		return ""
	}
	for _, name := range sparkPorts {
		if declared, ok := pod.Port(name); ok && declared == number {
			return name
		}
	}
	if i := slices.IndexFunc(sparkPorts, func(name string) bool { return spark.DefaultPorts[name] == number }); i >= 0 && !isOthers(pod, number, sparkPorts[i]) {
		return sparkPorts[i]
	}
	if mayBeTLS(pod, number) && !isOthers(pod, number, spark.UIPort) {
		return spark.UIPort
	}
	return ""
}

// isOthers reports whether the pod declares one of Spark's default numbers for
// something else. Either another container does, or Spark's own does under a name that
// the user chose, while Spark's port of that number is declared elsewhere or cannot be
// there. A platform that makes drivers itself may give Spark's port its own name.
func isOthers(pod spark.Pod, number int32, name string) bool {
	declares := func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number })
	}
	for i, c := range pod.Spec.Containers {
		if i != pod.Index && declares(c) {
			return true
		}
	}
	return slices.ContainsFunc(pod.Spec.InitContainers, declares) ||
		declares(*pod.Container()) && (pod.Role == spark.Executor || pod.PortIndex(name) >= 0)
}

// mayBeTLS reports whether the UI may be on the port with spark.ssl.ui.enabled=true:
// 400 above its own, which then redirects there (JettyUtils.scala).
func mayBeTLS(pod spark.Pod, number int32) bool {
	const above = 400
	declared, ok := pod.Port(spark.UIPort)
	return number == spark.DefaultPorts[spark.UIPort]+above || ok && number == declared+above
}

var sparkPorts = []string{spark.RPCPort, spark.UIPort, spark.BlockManagerPort, spark.ConnectPort}

// local matches how a command names its own container, in front of a port: "nc -z
// localhost 4040", "curl http://$POD_IP:4040", "/dev/tcp/127.0.0.1/4040", "ss -ltn |
// grep :4040".
var local = regexp.MustCompile(`(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[?::1\]?|\$\{?(?:(?:\w+_)?POD_IP|HOSTNAME|SPARK_LOCAL_IP|SPARK_DRIVER_BIND_ADDRESS)\}?|\$\((?:hostname|HOSTNAME)[^)]*\)|grep(?: -\w+)*)["']?[\s:/]+["']?:?([0-9]{2,5})\b`)

// portInWords returns the port of Spark's that the words of an exec probe name.
func portInWords(pod spark.Pod, probe *corev1.Probe) (number int32, ok bool) {
	if probe.Exec == nil {
		return 0, false
	}
	for _, found := range local.FindAllStringSubmatch(strings.Join(probe.Exec.Command, " "), -1) {
		n, err := strconv.ParseInt(found[1], 10, 32)
		if err == nil && sparkPort(pod, int32(n)) != "" && !strings.Contains(found[0], "SPARK_DRIVER_POD_IP") {
			return int32(n), true
		}
	}
	return 0, false
}

// caseOfRule returns the case of a rule's probe before it meets a pod. Spark listens
// on a port that the rule names, or else the probe is left out of the pod.
func (r *Rule) caseOfRule(name ProbeName, probe *corev1.Probe) probeCase {
	number, port := Target(probe)
	s := probeCase{
		role: r.Match.Role, name: name, probe: probe, rule: r, number: number,
		gated:        name == Liveness && r.Probes.Startup != nil,
		mayBeUnready: r.Match.Role == spark.Executor || r.AcceptUnreadyDriver,
	}
	for _, each := range sparkPorts {
		if port == each || number == spark.DefaultPorts[each] {
			s.targetPort = each
		}
	}
	return s
}

// isConnect reports whether the rule is for Spark Connect servers only.
func (r *Rule) isConnect() bool {
	matches, _ := path.Match(r.Match.MainClass, connectServer)
	return matches
}

// check returns the first verdict that is not accepted, or one without a text. accepted
// may be nil.
func (s probeCase) check(accepted func(verdict) bool) verdict {
	for _, check := range checks {
		if v := check(s); v.text != "" && (accepted == nil || !accepted(v)) {
			return v
		}
	}
	return verdict{}
}
