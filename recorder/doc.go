// Package recorder watches Spark's pods and writes how they died on the driver,
// where a gateway looks, and, because that pod is often gone within minutes,
// as an Event, a metric and a line of the log.
//
// An executor's pod is deleted one or two seconds after it died. So the
// evidence is taken from the object in hand when the API server tells of a
// change, and the work that is queued is that fact, not the name of a pod to
// look up later. Whatever is queued can be done twice, by several replicas and
// in any order: package oom sees to that.
package recorder
