package spark

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// BlockManagerOption is the JVM option that gives an executor's block manager its
// port. It is not -Dspark.driver.blockManager.port, which Spark always passes.
const BlockManagerOption = "-Dspark.blockManager.port="

// DefaultPorts are the numbers that Spark declares unless the user chose others
// (Constants.scala, UI.scala, Connect.scala). An executor that declares the block
// manager's 7079 listens on a random port.
var DefaultPorts = map[string]int32{RPCPort: 7078, BlockManagerPort: 7079, UIPort: 4040, ConnectPort: 15002}

// Port returns the number that Spark's container declares under a name.
//
// A declared port is not always listened on. A driver opens RPCPort first, then UIPort
// (never, with spark.ui.enabled=false), and asks for executors after that. Its own
// BlockManagerPort is wrong if the user set spark.blockManager.port. An executor's
// BlockManagerPort is real only if [Pod.BlockManager] returns it.
func (p Pod) Port(name string) (number int32, ok bool) {
	if i := p.PortIndex(name); i >= 0 {
		return p.Container().Ports[i].ContainerPort, true
	}
	return 0, false
}

// PortIndex returns the index of a named port in the ports of Spark's container, or -1
// if it declares none of that name. Only TCP counts: Spark opens no other.
func (p Pod) PortIndex(name string) int {
	for i, port := range p.Container().Ports {
		if port.Name == name && (port.Protocol == corev1.ProtocolTCP || port.Protocol == "") {
			return i
		}
	}
	return -1
}

// BlockManager returns the port on which an executor's block manager listens, on the
// pod's IP, from the moment when the driver has accepted it. By default the port is
// random, and ok is false. The container still declares 7079 then (SparkEnv.scala uses
// spark.blockManager.port, 0 by default; BasicExecutorFeatureStep.scala declares 7079).
func (p Pod) BlockManager() (number int32, ok bool) {
	for _, option := range p.JavaOptions() {
		value, found := strings.CutPrefix(option, BlockManagerOption)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 || n > 65535 || ok && number != int32(n) {
			return 0, false // 0 asks for a random port; of two values the order is not known
		}
		number, ok = int32(n), true
	}
	return number, ok
}
