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

// suspect is a probe that may harm Spark, with what must be known to judge it.
type suspect struct {
	role  spark.Role
	name  ProbeName
	probe *corev1.Probe
	// asks is the port of Spark's that it asks, by the name that Spark gives it;
	// "" for exec and for a port that is not Spark's.
	asks   string
	number int32 // of that port; 0 where only its name is known
	// elsewhere is the number that Spark really listens on, if the probe asks
	// another one.
	elsewhere int32
	// gated: a startup probe holds it back until Spark has answered once.
	gated bool
	// mayBeUnready is true if it harms nothing when the pod is not Ready.
	mayBeUnready bool
	// published: the driver's Service publishes addresses that are not ready.
	published bool
	// operated: apache/spark-kubernetes-operator ends the application if this
	// driver is not Ready in time.
	operated bool
	// unknownPort is a named port that the container does not declare.
	unknownPort string
	listens     bool // an executor's block manager, on the port that is asked
	connect     bool // the driver is a Spark Connect server
	ours        bool // a probe of a rule
}

// Harm says what a probe of Spark's container will do to Spark, with the remedy.
// The kind is HarmfulProbe only for what is certain, else DoubtfulProbe; the
// text is "" for a probe that is harmless or cannot be judged. published says
// that the driver's Service publishes addresses that are not ready.
func Harm(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) (kind WarningKind, text string) {
	probe = probe.DeepCopy()
	setDefaults(probe)
	s := suspectOn(pod, name, probe, published)
	v := s.judge()
	if number, ok := portInWords(pod, probe); ok && v.text == "" {
		s.ask(pod, number)
		if v = s.judge(); v.text != "" {
			v.certain, v.text = false, fmt.Sprintf("if this command asks port %d of its own container: %s", number, v.text)
		}
	}
	if v.certain && !pod.Spec.HostNetwork { // there another pod may listen on the port
		return HarmfulProbe, v.text
	}
	return DoubtfulProbe, v.text
}

func suspectOn(pod spark.Pod, name ProbeName, probe *corev1.Probe, published bool) suspect {
	s := suspect{
		role: pod.Role, name: name, probe: probe,
		gated:        name == Liveness && pod.Container().StartupProbe != nil,
		mayBeUnready: pod.Role == spark.Executor || published || pod.IsAtLeast(findsDriverByIP),
		published:    published,
		operated:     pod.Role == spark.Driver && pod.OwnedByApacheOperator(),
		connect:      pod.MainClass() == connectServer,
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
	s.ask(pod, number)
	return s
}

// ask fills in what the pod shows about a port that the probe asks.
func (s *suspect) ask(pod spark.Pod, number int32) {
	s.asks, s.number = askedOnPod(pod, number), number
	right, known := pod.Port(s.asks)
	if s.asks == spark.BlockManagerPort && s.role == spark.Executor {
		right, known = pod.BlockManager()
		s.listens = known && right == number
	}
	if known && right != number && !mayBeTLS(pod, number) {
		s.elsewhere = right
	}
}

const connectServer = "org.apache.spark.sql.connect.service.SparkConnectServer"

// findsDriverByIP is the first version of Spark whose executors use the driver's IP
// (SPARK-57351).
const findsDriverByIP = "4.3"

// askedOnPod is the name that Spark gives the port; "" if it is not Spark's.
// Spark's numbers are Spark's on either role, declared or not, because one pod
// template may serve both roles, and one of Spark before 3.4 loses its ports.
func askedOnPod(pod spark.Pod, number int32) string {
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

// isOthers tells whether the pod declares one of Spark's default numbers for
// something else: another container does, or Spark's own under a name of the
// user's, while Spark's port of that number is declared elsewhere or cannot be
// there. A platform that makes drivers itself may give Spark's port a name of
// its own.
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

// mayBeTLS tells whether the UI may be on the port with spark.ssl.ui.enabled=true:
// 400 above its own, which then redirects there (JettyUtils.scala).
func mayBeTLS(pod spark.Pod, number int32) bool {
	const above = 400
	declared, ok := pod.Port(spark.UIPort)
	return number == spark.DefaultPorts[spark.UIPort]+above || ok && number == declared+above
}

var sparkPorts = []string{spark.RPCPort, spark.UIPort, spark.BlockManagerPort, spark.ConnectPort}

// local is how a command names its own container, in front of a port: "nc -z
// localhost 4040", "curl http://$POD_IP:4040", "/dev/tcp/127.0.0.1/4040",
// "ss -ltn | grep :4040".
var local = regexp.MustCompile(`(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[?::1\]?|\$\{?(?:(?:\w+_)?POD_IP|HOSTNAME|SPARK_LOCAL_IP|SPARK_DRIVER_BIND_ADDRESS)\}?|\$\((?:hostname|HOSTNAME)[^)]*\)|grep(?: -\w+)*)["']?[\s:/]+["']?:?([0-9]{2,5})\b`)

// portInWords is the port of Spark's that the words of an exec probe name.
func portInWords(pod spark.Pod, probe *corev1.Probe) (number int32, ok bool) {
	if probe.Exec == nil {
		return 0, false
	}
	for _, found := range local.FindAllStringSubmatch(strings.Join(probe.Exec.Command, " "), -1) {
		n, err := strconv.ParseInt(found[1], 10, 32)
		if err == nil && askedOnPod(pod, int32(n)) != "" && !strings.Contains(found[0], "SPARK_DRIVER_POD_IP") {
			return int32(n), true
		}
	}
	return 0, false
}

// suspect is a probe of the rule before it meets a pod.
func (r *Rule) suspect(name ProbeName, probe *corev1.Probe) suspect {
	number, port := Target(probe)
	s := suspect{
		role: r.Match.Role, name: name, probe: probe, ours: true, number: number,
		gated:        name == Liveness && r.Probes.Startup != nil,
		mayBeUnready: r.Match.Role == spark.Executor || r.AcceptUnreadyDriver,
		published:    r.PublishNotReadyAddresses,
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

func (s suspect) judge() verdict { return s.firstVerdict(func(verdict) bool { return false }) }

// firstVerdict is the first one that is not accepted.
func (s suspect) firstVerdict(accepted func(verdict) bool) verdict {
	for _, judge := range judges {
		if v := judge(s); v.text != "" && !accepted(v) {
			return v
		}
	}
	return verdict{}
}
