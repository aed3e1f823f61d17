// Package oom says of what the pods of a Spark application died, and keeps the
// record of it: which terminations were counted, the newest of them in detail,
// and what to do. The record stands in an annotation of the driver's pod, see
// docs/annotations.md; [Read] is for gateways written in Go.
//
// Kubernetes has no single sign of a death for want of memory. [Terminations]
// works it out from a pod as it is at one moment, never from what changed, so
// that it does not matter which moments are seen, how often, and by whom.
package oom
