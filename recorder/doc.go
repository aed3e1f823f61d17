// Package recorder watches Spark's pods and writes how they died on the driver, where a
// gateway looks. That pod is often gone within minutes, so it also writes an Event, a
// metric and a line of the log.
//
// An executor's pod is deleted one or two seconds after it died. So the evidence is
// taken from the object that comes with a change, and the queue holds this fact, not
// the name of a pod to look up later. Whatever is queued may be done twice, by several
// replicas and in any order: package oom allows it.
package recorder
