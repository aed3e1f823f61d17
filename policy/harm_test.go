package policy

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

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
		judge string
		harm  suspect
		tweak func(*suspect)
	}{
		{"noSuchPort", suspect{role: d, name: Readiness, probe: tcp(1, 3), unknownPort: "x"}, func(s *suspect) { s.mayBeUnready = true }},
		{"noSuchPort", suspect{role: d, name: Startup, probe: tcp(1, NeverGivesUp), unknownPort: "x"}, func(s *suspect) { s.unknownPort = "" }},
		{"noGRPC", suspect{role: d, name: Liveness, probe: rpc(), asks: spark.ConnectPort, connect: true}, func(s *suspect) { s.asks = "" }},
		{"noGRPC", suspect{role: d, name: Readiness, probe: rpc(), asks: spark.ConnectPort}, func(s *suspect) { s.mayBeUnready = true }},
		{"wrongBlockManager", suspect{role: e, name: Liveness, probe: tcp(60, 60), asks: spark.BlockManagerPort}, func(s *suspect) { s.listens = true }},
		{"wrongBlockManager", suspect{role: e, name: Startup, probe: tcp(60, 60), asks: spark.BlockManagerPort}, func(s *suspect) { s.name = Readiness }},
		{"lateOrNever", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.BlockManagerPort}, func(s *suspect) { s.gated = true }},
		{"lateOrNever", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.ConnectPort}, func(s *suspect) { s.connect = true }},
		{"lateOrNever", suspect{role: d, name: Startup, probe: tcp(1, NeverGivesUp), asks: spark.ConnectPort}, func(s *suspect) { s.mayBeUnready = true }},
		{"endsExecutor", suspect{role: e, name: Startup, probe: tcp(10, 59), asks: spark.BlockManagerPort, listens: true}, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsStarting", suspect{role: d, name: Liveness, probe: tcp(60, 60), asks: spark.UIPort}, func(s *suspect) { s.gated = true }},
		{"endsStarting", suspect{role: d, name: Startup, probe: tcp(10, 59), asks: spark.RPCPort, mayBeUnready: true}, func(s *suspect) { s.probe = tcp(10, 60) }},
		{"endsStarting", suspect{role: d, name: Liveness, probe: http(60, 60), asks: spark.UIPort}, func(s *suspect) { s.asks = "" }},
		{"endsRunning", suspect{role: d, name: Liveness, probe: http(10, 59), asks: spark.UIPort, gated: true}, func(s *suspect) { s.probe = http(10, 60) }},
		{"endsPausing", suspect{role: d, name: Liveness, probe: command(10, 11), ours: true}, func(s *suspect) { s.probe = command(10, 12) }},
		{"endsPausing", suspect{role: d, name: Liveness, probe: command(10, 11), ours: true}, func(s *suspect) { s.ours = false }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: tcp(3, 3), asks: spark.RPCPort}, func(s *suspect) { s.probe = tcp(2, 3) }},
		{"losesDNS", suspect{role: d, name: Readiness, probe: tcp(3, 3), asks: spark.RPCPort}, func(s *suspect) { s.mayBeUnready = true }},
	}
	spoken := map[string]bool{}
	for _, test := range tests {
		if got := speaker(test.harm); got != test.judge {
			t.Errorf("%s is to speak of %+v, and %q does", test.judge, test.harm, got)
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
		if judge(s) != "" {
			return nameOf(judge)
		}
	}
	return ""
}

func nameOf(judge func(suspect) string) string {
	name := runtime.FuncForPC(reflect.ValueOf(judge).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}
