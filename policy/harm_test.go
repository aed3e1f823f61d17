package policy

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/spark"
)

func tcp(period, threshold int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}, PeriodSeconds: period, FailureThreshold: threshold, SuccessThreshold: 1}
}

func http(period, threshold int32) *corev1.Probe {
	p := tcp(period, threshold)
	p.TCPSocket, p.HTTPGet = nil, &corev1.HTTPGetAction{}
	return p
}

func command(period, threshold int32) *corev1.Probe {
	p := tcp(period, threshold)
	p.TCPSocket, p.Exec = nil, &corev1.ExecAction{}
	return p
}

func delayed(seconds int32) *corev1.Probe {
	p := tcp(1, 3)
	p.InitialDelaySeconds = seconds
	return p
}

func rpc() *corev1.Probe {
	p := tcp(10, 3)
	p.TCPSocket, p.GRPC = nil, &corev1.GRPCAction{}
	return p
}

// Each judge speaks of what it is for, first of all judges, and is silent when
// one thing is changed.
func TestJudges(t *testing.T) {
	const d, e = spark.Driver, spark.Executor
	tests := []struct {
		judge   string
		harm    suspect
		certain bool
		tweak   func(*suspect)
	}{
		{"noSuchPort", suspect{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x"}, true, func(s *suspect) { s.unknownPort = "" }},
		{"noSuchPort", suspect{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true}, false, func(s *suspect) { s.unknownPort = "" }},
		{"noSuchPort", suspect{role: d, name: Startup, probe: tcp(1, NeverGivesUp), unknownPort: "x"}, true, func(s *suspect) { s.unknownPort = "" }},
		{"noSuchPort", suspect{role: e, name: Liveness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true}, false, func(s *suspect) { s.unknownPort = "" }},
		{"noSuchPort", suspect{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true, operated: true}, true, func(s *suspect) { s.unknownPort = "" }},
		{"noListener", suspect{role: e, name: Liveness, probe: http(60, 60), asks: spark.UIPort, mayBeUnready: true}, true, func(s *suspect) { s.asks = "" }},
		{"noListener", suspect{role: e, name: Startup, probe: tcp(60, 60), asks: spark.RPCPort, mayBeUnready: true}, true, func(s *suspect) { s.asks = "" }},
		{"noListener", suspect{role: e, name: Readiness, probe: tcp(60, 60), asks: spark.RPCPort, mayBeUnready: true}, false, func(s *suspect) { s.ours = true }},
		{"noListener", suspect{role: e, name: Liveness, probe: tcp(60, 60), asks: spark.BlockManagerPort, mayBeUnready: true}, true, func(s *suspect) { s.listens = true }},
		{"noListener", suspect{role: e, name: Liveness, probe: tcp(60, 60), asks: spark.BlockManagerPort, elsewhere: 20001, mayBeUnready: true}, true, func(s *suspect) { s.listens = true }},
		{"noListener", suspect{role: d, name: Liveness, probe: http(60, 60), asks: spark.UIPort, elsewhere: 4045, gated: true}, false, func(s *suspect) { s.elsewhere = 0 }},
		{"noListener", suspect{role: d, name: Readiness, probe: http(1, 60), asks: spark.UIPort, elsewhere: 4045}, false, func(s *suspect) { s.elsewhere = 0 }},
		{"wrongProtocol", suspect{role: d, name: Liveness, probe: rpc(), asks: spark.ConnectPort, connect: true}, true, func(s *suspect) { s.asks = "" }},
		{"wrongProtocol", suspect{role: d, name: Readiness, probe: rpc(), asks: spark.ConnectPort, mayBeUnready: true}, false, func(s *suspect) { s.asks = "" }},
		{"wrongProtocol", suspect{role: d, name: Liveness, probe: http(60, 60), asks: spark.RPCPort, gated: true}, true, func(s *suspect) { s.asks = spark.UIPort }},
		{"wrongProtocol", suspect{role: e, name: Liveness, probe: rpc(), asks: spark.BlockManagerPort, listens: true, mayBeUnready: true}, true, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"lateOrNever", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.BlockManagerPort}, false, func(s *suspect) { s.gated = true }},
		{"lateOrNever", suspect{role: d, name: Liveness, probe: tcp(10, 3), asks: spark.BlockManagerPort}, true, func(s *suspect) { s.gated = true }},
		{"lateOrNever", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.ConnectPort, ours: true}, false, func(s *suspect) { s.connect = true }},
		{"lateOrNever", suspect{role: d, name: Readiness, probe: tcp(1, 3), asks: spark.BlockManagerPort}, false, func(s *suspect) { s.mayBeUnready = true }},
		{"endsExecutor", suspect{role: e, name: Startup, probe: tcp(10, 59), asks: spark.BlockManagerPort, listens: true}, true, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsStarting", suspect{role: d, name: Liveness, probe: tcp(10, 3), asks: spark.UIPort}, true, func(s *suspect) { s.asks = "" }},
		{"endsStarting", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.UIPort}, false, func(s *suspect) { s.gated = true }},
		{"endsStarting", suspect{role: d, name: Startup, probe: tcp(10, 59), asks: spark.RPCPort, mayBeUnready: true}, true, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsStarting", suspect{role: d, name: Startup, probe: tcp(10, 59), asks: spark.ConnectPort, mayBeUnready: true}, false, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsStarting", suspect{role: d, name: Liveness, probe: tcp(10, 59), asks: spark.ConnectPort}, false, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsRunning", suspect{role: d, name: Liveness, probe: http(10, 59), asks: spark.UIPort, gated: true, ours: true}, true, func(s *suspect) { s.probe = http(10, 60) }},
		{"endsRunning", suspect{role: d, name: Liveness, probe: http(10, 59), asks: spark.UIPort, gated: true}, false, func(s *suspect) { s.probe = http(10, 60) }},
		{"endsRunning", suspect{role: d, name: Liveness, probe: http(10, 11), asks: spark.UIPort, gated: true}, true, func(s *suspect) { s.probe = http(10, 60) }},
		{"endsPausing", suspect{role: d, name: Liveness, probe: command(10, 11), ours: true}, true, func(s *suspect) { s.probe = command(10, 12) }},
		{"endsPausing", suspect{role: d, name: Liveness, probe: command(10, 11), ours: true}, true, func(s *suspect) { s.ours = false }},
		{"tooLateForOperator", suspect{role: d, name: Readiness, probe: delayed(300), operated: true, mayBeUnready: true}, false, func(s *suspect) { s.probe = delayed(299) }},
		{"tooLateForOperator", suspect{role: d, name: Readiness, probe: delayed(300), operated: true, mayBeUnready: true}, false, func(s *suspect) { s.operated = false }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: tcp(3, 3), asks: spark.RPCPort}, true, func(s *suspect) { s.probe = tcp(2, 3) }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: delayed(2), asks: spark.RPCPort}, true, func(s *suspect) { s.probe = delayed(1) }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: tcp(3, 3), asks: spark.RPCPort}, true, func(s *suspect) { s.mayBeUnready = true }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: http(1, 3), asks: spark.UIPort, ours: true}, true, func(s *suspect) { s.published = true }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: http(1, 3), asks: spark.UIPort, ours: true}, true, func(s *suspect) { s.ours = false }},
	}
	spoken := map[string]bool{}
	for _, test := range tests {
		if got := speaker(test.harm); got != test.judge || test.harm.judge().certain != test.certain {
			t.Errorf("%s is to speak of %+v, and %q does: %+v", test.judge, test.harm, got, test.harm.judge())
		}
		spoken[test.judge] = true
		test.tweak(&test.harm)
		if got := speaker(test.harm); got != "" {
			t.Errorf("%s: %q speaks of the harmless %+v", test.judge, got, test.harm)
		}
	}
	for _, judge := range judges {
		if !spoken[nameOf(judge)] {
			t.Errorf("the judge %s has no test", nameOf(judge))
		}
	}
}

// speaker is the name of the judge that speaks first.
func speaker(s suspect) string {
	for _, judge := range judges {
		if judge(s).text != "" {
			return nameOf(judge)
		}
	}
	return ""
}

func nameOf(judge func(suspect) verdict) string {
	name := runtime.FuncForPC(reflect.ValueOf(judge).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}

// A rule, a pod's setting and a user's own probe are judged by one judge of the
// driver's name in DNS.
func TestOneJudgeOfDNS(t *testing.T) {
	for _, delay := range []int32{0, 1, 2, 30} {
		probe := delayed(delay)
		probe.TCPSocket.Port = intstr.FromString(spark.RPCPort)
		rule := &Rule{Match: Match{Role: spark.Driver}}
		refused := len(rule.checkProbe(Readiness, probe, field.NewPath("x"))) > 0
		_, text := Harm(driver(nil), Readiness, probe, false)
		if want := delay > 1; refused != want || (text != "") != want {
			t.Errorf("initialDelaySeconds %d: refused in a rule %v, told of a user's probe: %q", delay, refused, text)
		}
	}
}

func driver(tweak func(*corev1.Pod)) spark.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: spark.DriverContainer, Ports: []corev1.ContainerPort{
		{Name: spark.RPCPort, ContainerPort: 7078}, {Name: spark.UIPort, ContainerPort: 4040},
	}}}}}
	pod.Labels = map[string]string{spark.RoleLabel: string(spark.Driver)}
	if tweak != nil {
		tweak(pod)
	}
	p, err := spark.PodOf(pod)
	if err != nil {
		panic(err)
	}
	return p
}

// Which port a number is, on a driver and on an executor.
func TestAskedOnPod(t *testing.T) {
	declare := func(ports ...corev1.ContainerPort) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = ports }
	}
	onExecutor := func(p *corev1.Pod) {
		p.Labels[spark.RoleLabel], p.Spec.Containers[0].Name = string(spark.Executor), spark.ExecutorContainer
	}
	beside := func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "proxy", Ports: []corev1.ContainerPort{{ContainerPort: 4440}}}}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log", Ports: []corev1.ContainerPort{{ContainerPort: 15002}}})
	}
	tests := []struct {
		name   string
		tweak  func(*corev1.Pod)
		number int32
		want   string
	}{
		{"declared", nil, 4040, spark.UIPort},
		{"not declared", nil, 15002, spark.ConnectPort},
		{"a TLS UI", nil, 4440, spark.UIPort},
		{"a TLS UI of another number", declare(corev1.ContainerPort{Name: spark.UIPort, ContainerPort: 4045}), 4445, spark.UIPort},
		{"the UI is elsewhere", declare(corev1.ContainerPort{Name: spark.UIPort, ContainerPort: 4045}), 4040, spark.UIPort},
		{"the UI's number is the user's", declare(corev1.ContainerPort{Name: spark.UIPort, ContainerPort: 4045}, corev1.ContainerPort{Name: "api", ContainerPort: 4040}), 4040, ""},
		{"a platform's own names", declare(corev1.ContainerPort{Name: "ui", ContainerPort: 4040}), 4040, spark.UIPort},
		{"another", nil, 8080, ""},
		{"a sidecar's", beside, 15002, ""},
		{"a native sidecar's", beside, 4440, ""},
		{"an executor's", onExecutor, 7079, spark.BlockManagerPort},
		{"a driver's, on an executor", onExecutor, 7078, spark.RPCPort},
		{"an agent's, on an executor", func(p *corev1.Pod) {
			onExecutor(p)
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "jmx", ContainerPort: 4040}}
		}, 4040, ""},
	}
	for _, test := range tests {
		if got := askedOnPod(driver(test.tweak), test.number); got != test.want {
			t.Errorf("%s: %d is %q, want %q", test.name, test.number, got, test.want)
		}
	}
}

// The words of a command are a hint, and never more.
func TestPortInWords(t *testing.T) {
	for command, want := range map[string]int32{
		"curl -s http://localhost:4040/api/v1/applications": 4040,
		"nc -z 127.0.0.1 7078":                              7078,
		"exec 3<>/dev/tcp/127.0.0.1/4040":                   4040,
		"wget -q -O- http://[::1]:4440/":                    4440,
		"curl http://$POD_IP:4040":                          4040,
		"curl http://${SPARK_EXECUTOR_POD_IP}:7079":         7079,
		"nc -z $(hostname -i) 15002":                        15002,
		"ss -ltn | grep -q :4040":                           4040,
		"netstat -tln | grep 4040":                          4040,
		"curl http://spark-history.jobs.svc:4040":           0, // not its own container
		"nc -z $SPARK_DRIVER_POD_IP 7078":                   0,
		"test $(find /tmp -size +4040k)":                    0,
		"curl http://localhost:8080/health":                 0,
		"curl http://localhost:40400":                       0,
		"true":                                              0,
	} {
		probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", command}}}}
		if got, _ := portInWords(driver(nil), probe); got != want {
			t.Errorf("%s: %d, want %d", command, got, want)
		}
		if kind, text := Harm(driver(nil), Liveness, probe, true); (text != "") != (want > 0) || text != "" && kind != DoubtfulProbe {
			t.Errorf("%s: %s %s", command, kind, text)
		}
	}
}
