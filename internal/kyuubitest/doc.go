// Package kyuubitest is a stand-in for Apache Kyuubi in tests, because Kyuubi itself
// is in no package registry. It answers as a real Kyuubi 1.12.0 was seen to answer.
// transcripts/ has what was seen. transcripts_test.go sends each recorded request to
// the stand-in and compares the answers, so that it cannot drift.
//
// A [Registry] has the registrations of engines: a [Tree] in memory, or a real
// ZooKeeper. A [Server] answers the calls of the releaser, and those that show a
// client its error.
package kyuubitest

import (
	_ "embed"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
)

//go:embed driver-oomkilled.json
var driverOOMKilled []byte

// DriverOOMKilled returns the pod of a real engine right after the kernel ended it:
// its container is terminated, its phase still Running. Each call returns a new pod.
func DriverOOMKilled() *corev1.Pod {
	pod := &corev1.Pod{}
	if err := json.Unmarshal(driverOOMKilled, pod); err != nil {
		panic(err) // the file is part of the package
	}
	return pod
}
