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

// Each check finds what it is for, before all others, and finds nothing when
// one thing is changed.
func TestChecks(t *testing.T) {
	const d, e = spark.Driver, spark.Executor
	tests := []struct {
		check   string
		harm    probeCase
		certain bool
		tweak   func(*probeCase)
	}{
		{"noSuchPort", probeCase{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x"}, true, func(s *probeCase) { s.unknownPort = "" }},
		{"noSuchPort", probeCase{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true}, false, func(s *probeCase) { s.unknownPort = "" }},
		{"noSuchPort", probeCase{role: d, name: Startup, probe: tcp(1, NeverGivesUp), unknownPort: "x"}, true, func(s *probeCase) { s.unknownPort = "" }},
		{"noSuchPort", probeCase{role: e, name: Liveness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true}, false, func(s *probeCase) { s.unknownPort = "" }},
		{"noSuchPort", probeCase{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x", mayBeUnready: true, operated: true}, true, func(s *probeCase) { s.unknownPort = "" }},
		{"noListener", probeCase{role: e, name: Liveness, probe: http(60, 60), targetPort: spark.UIPort, mayBeUnready: true}, true, func(s *probeCase) { s.targetPort = "" }},
		{"noListener", probeCase{role: e, name: Startup, probe: tcp(60, 60), targetPort: spark.RPCPort, mayBeUnready: true}, true, func(s *probeCase) { s.targetPort = "" }},
		{"noListener", probeCase{role: e, name: Readiness, probe: tcp(60, 60), targetPort: spark.RPCPort, mayBeUnready: true}, false, func(s *probeCase) { s.rule = &Rule{} }},
		{"noListener", probeCase{role: e, name: Liveness, probe: tcp(60, 60), targetPort: spark.BlockManagerPort, number: 7079, mayBeUnready: true}, true, func(s *probeCase) { s.listensOn = s.number }},
		{"noListener", probeCase{role: e, name: Liveness, probe: tcp(60, 60), targetPort: spark.BlockManagerPort, number: 7079, listensOn: 20001, mayBeUnready: true}, true, func(s *probeCase) { s.listensOn = s.number }},
		{"noListener", probeCase{role: d, name: Liveness, probe: http(60, 60), targetPort: spark.UIPort, number: 4040, listensOn: 4045, gated: true}, false, func(s *probeCase) { s.listensOn = 0 }},
		{"noListener", probeCase{role: d, name: Readiness, probe: http(1, 60), targetPort: spark.UIPort, number: 4040, listensOn: 4045}, false, func(s *probeCase) { s.listensOn = 0 }},
		{"wrongProtocol", probeCase{role: d, name: Liveness, probe: rpc(), targetPort: spark.ConnectPort}, true, func(s *probeCase) { s.targetPort = "" }},
		{"wrongProtocol", probeCase{role: d, name: Readiness, probe: rpc(), targetPort: spark.ConnectPort, mayBeUnready: true}, false, func(s *probeCase) { s.targetPort = "" }},
		{"wrongProtocol", probeCase{role: d, name: Liveness, probe: http(60, 60), targetPort: spark.RPCPort, gated: true}, true, func(s *probeCase) { s.targetPort = spark.UIPort }},
		{"wrongProtocol", probeCase{role: e, name: Liveness, probe: rpc(), targetPort: spark.BlockManagerPort, mayBeUnready: true}, true, func(s *probeCase) { s.probe = tcp(10, 60) }},
		{"lateOrNever", probeCase{role: d, name: Liveness, probe: tcp(60, 60), targetPort: spark.BlockManagerPort}, false, func(s *probeCase) { s.gated = true }},
		{"lateOrNever", probeCase{role: d, name: Liveness, probe: tcp(10, 3), targetPort: spark.BlockManagerPort}, true, func(s *probeCase) { s.gated = true }},
		{"lateOrNever", probeCase{role: d, name: Liveness, probe: tcp(60, 60), targetPort: spark.ConnectPort, rule: &Rule{}}, false, func(s *probeCase) { s.rule = &Rule{Match: Match{MainClass: "org.apache.spark.sql.connect.*"}} }},
		{"lateOrNever", probeCase{role: d, name: Readiness, probe: tcp(1, 3), targetPort: spark.BlockManagerPort}, false, func(s *probeCase) { s.mayBeUnready = true }},
		{"endsExecutor", probeCase{role: e, name: Startup, probe: tcp(10, 59), targetPort: spark.BlockManagerPort}, true, func(s *probeCase) { s.probe = tcp(10, 60) }},
		{"endsStarting", probeCase{role: d, name: Liveness, probe: tcp(10, 3), targetPort: spark.UIPort}, true, func(s *probeCase) { s.targetPort = "" }},
		{"endsStarting", probeCase{role: d, name: Liveness, probe: tcp(60, 60), targetPort: spark.UIPort}, false, func(s *probeCase) { s.gated = true }},
		{"endsStarting", probeCase{role: d, name: Startup, probe: tcp(10, 59), targetPort: spark.RPCPort, mayBeUnready: true}, true, func(s *probeCase) { s.probe = tcp(10, 60) }},
		{"endsStarting", probeCase{role: d, name: Startup, probe: tcp(10, 59), targetPort: spark.ConnectPort, mayBeUnready: true}, false, func(s *probeCase) { s.probe = tcp(10, 60) }},
		{"endsStarting", probeCase{role: d, name: Liveness, probe: tcp(10, 59), targetPort: spark.ConnectPort}, false, func(s *probeCase) { s.probe = tcp(10, 60) }},
		{"endsRunning", probeCase{role: d, name: Liveness, probe: http(10, 59), targetPort: spark.UIPort, gated: true, rule: &Rule{}}, true, func(s *probeCase) { s.probe = http(10, 60) }},
		{"endsRunning", probeCase{role: d, name: Liveness, probe: http(10, 59), targetPort: spark.UIPort, gated: true}, false, func(s *probeCase) { s.probe = http(10, 60) }},
		{"endsRunning", probeCase{role: d, name: Liveness, probe: http(10, 11), targetPort: spark.UIPort, gated: true}, true, func(s *probeCase) { s.probe = http(10, 60) }},
		{"endsPausing", probeCase{role: d, name: Liveness, probe: command(10, 11), rule: &Rule{}}, true, func(s *probeCase) { s.probe = command(10, 12) }},
		{"endsPausing", probeCase{role: d, name: Liveness, probe: command(10, 11), rule: &Rule{}}, true, func(s *probeCase) { s.rule = nil }},
		{"tooLateForOperator", probeCase{role: d, name: Readiness, probe: delayed(300), operated: true, mayBeUnready: true}, false, func(s *probeCase) { s.probe = delayed(299) }},
		{"tooLateForOperator", probeCase{role: d, name: Readiness, probe: delayed(300), operated: true, mayBeUnready: true}, false, func(s *probeCase) { s.operated = false }},
		{"losesDNS", probeCase{role: d, name: Readiness, probe: tcp(3, 3), targetPort: spark.RPCPort}, true, func(s *probeCase) { s.probe = tcp(2, 3) }},
		{"losesDNS", probeCase{role: d, name: Readiness, probe: delayed(2), targetPort: spark.RPCPort}, true, func(s *probeCase) { s.probe = delayed(1) }},
		{"losesDNS", probeCase{role: d, name: Readiness, probe: tcp(3, 3), targetPort: spark.RPCPort}, true, func(s *probeCase) { s.mayBeUnready = true }},
		{"losesDNS", probeCase{role: d, name: Readiness, probe: http(1, 3), targetPort: spark.UIPort, rule: &Rule{}}, true, func(s *probeCase) { s.rule = &Rule{PublishNotReadyAddresses: true} }},
		{"losesDNS", probeCase{role: d, name: Readiness, probe: http(1, 3), targetPort: spark.UIPort, rule: &Rule{}}, true, func(s *probeCase) { s.rule = nil }},
	}
	spoken := map[string]bool{}
	for _, test := range tests {
		if got := firstFinding(test.harm); got != test.check || test.harm.check(nil).certain != test.certain {
			t.Errorf("%s is to find %+v, and %q does: %+v", test.check, test.harm, got, test.harm.check(nil))
		}
		spoken[test.check] = true
		test.tweak(&test.harm)
		if got := firstFinding(test.harm); got != "" {
			t.Errorf("%s: %q finds the harmless %+v", test.check, got, test.harm)
		}
	}
	for _, check := range checks {
		if !spoken[nameOf(check)] {
			t.Errorf("the check %s has no test", nameOf(check))
		}
	}
}

// firstFinding is the name of the check that finds something first.
func firstFinding(s probeCase) string {
	for _, check := range checks {
		if check(s).text != "" {
			return nameOf(check)
		}
	}
	return ""
}

func nameOf(check func(probeCase) verdict) string {
	name := runtime.FuncForPC(reflect.ValueOf(check).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}

// A rule, a pod's setting and a user's own probe are checked by one check of the
// driver's name in DNS.
func TestOneCheckOfDNS(t *testing.T) {
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
func TestSparkPort(t *testing.T) {
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
		if got := sparkPort(driver(test.tweak), test.number); got != test.want {
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
