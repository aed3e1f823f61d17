package spark

import (
	"fmt"
	"strings"
)

// submitArgs is what a driver's arguments contain for spark-submit.
type submitArgs struct {
	class  string // --class
	memory string // spark.driver.memory: of several the last counts, as for the JVM that spark-submit starts
	// master and properties show who wrote the arguments. For a pod that it makes,
	// spark-submit writes --properties-file and no --master
	// (DriverCommandFeatureStep.scala).
	master, properties bool
}

// byHand reports whether something other than spark-submit made the pod. Its limit
// then does not follow from the heap.
func (a submitArgs) byHand() bool { return a.master && !a.properties }

// switches are the options of spark-submit that have no value.
var switches = map[string]bool{
	"--help": true, "-h": true, "--load-spark-defaults": true, "--supervise": true, "--usage-error": true, "--verbose": true, "-v": true, "--version": true,
}

// readSubmitArgs reads a driver's arguments as spark-submit does
// (SparkSubmitOptionParser.java): "driver", then options, then the program and
// the program's own arguments, which it does not read.
func readSubmitArgs(args []string) (read submitArgs) {
	if len(args) > 0 && !isOption(args[0]) {
		args = args[1:]
	}
	for len(args) > 0 && isOption(args[0]) {
		option, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		if switches[option] {
			continue
		}
		if !joined {
			if len(args) == 0 {
				break
			}
			value, args = args[0], args[1:]
		}
		read.option(option, value)
	}
	return read
}

func isOption(arg string) bool { return strings.HasPrefix(arg, "-") }

func (a *submitArgs) option(option, value string) {
	switch option {
	case "--class":
		a.class = value
	case "--master":
		a.master = true
	case "--properties-file":
		a.properties = true
	case "--driver-memory":
		a.memory = value
	case "--conf", "-c":
		if key, value, _ := strings.Cut(value, "="); key == driverMemory {
			a.memory = value
		}
	}
}

// ByHand reports whether a platform or a person, not spark-submit, made a driver's pod
// and chose its limit.
func (p Pod) ByHand() bool { return p.Role == Driver && readSubmitArgs(p.Container().Args).byHand() }

// MayTakeHeap reports whether a driver's heap is not in its arguments, and can be put
// there: spark-submit made the pod, so Spark's entrypoint passes its arguments on.
func (p Pod) MayTakeHeap() bool {
	args := p.Container().Args
	read := readSubmitArgs(args)
	return p.Role == Driver && len(p.Container().Command) == 0 && len(args) > 0 && args[0] == "driver" && read.properties && read.memory == ""
}

// HeapArgs returns the arguments by which a driver's heap is set, in MiB. They come right
// after "driver", so a later one of the user's counts instead. Arguments count more than
// the properties file.
func HeapArgs(mib int64) []string {
	return []string{"--conf", fmt.Sprintf("%s=%dm", driverMemory, mib)}
}

// KnownArgs returns the arguments of Spark's container that this package reads, in a
// form that it reads alike. The others may be long, and may hold secrets.
func (p Pod) KnownArgs() (known []string) {
	args := p.Container().Args
	if len(args) > 0 && !isOption(args[0]) {
		known = append(known, args[0])
	}
	read := readSubmitArgs(args)
	if read.class != "" {
		known = append(known, "--class", read.class)
	}
	if read.memory != "" {
		known = append(known, "--driver-memory", read.memory)
	}
	if read.byHand() {
		known = append(known, "--master", "k8s")
	}
	return known
}
