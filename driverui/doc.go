// Package driverui asks a driver's UI what only Spark knows: the settings in force, what
// executors measured, and what the driver's threads do.
//
// The UI belongs to a user who may create pods, so nothing of it is trusted. A question
// goes to the pod's own address and to the port that it declares, and to nothing else:
// no proxy is used and no redirect is followed. An answer is read as a stream, and is
// bounded in bytes and time. What an answer says is used only about the application
// that gave it.
//
// Spark's own documentation of the paths is "REST API" in monitoring.md; the fields are
// those of org.apache.spark.status.api.v1 (api.scala).
package driverui
