// Package oom works out why the pods of a Spark application died, and keeps the record:
// which terminations were counted, the newest of them in detail, and what to do. The
// record is an annotation of the driver's pod, see docs/annotations.md. A gateway
// written in Go can read it with [Read].
//
// Kubernetes has no single sign of a death caused by memory. [Terminations] works it
// out from a pod as it is at one moment, and never from a change. So it does not matter
// which moments are seen, how often, and by which process.
package oom
