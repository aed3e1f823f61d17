// Package gateway describes the release of a dead engine of Apache Kyuubi: what proves
// the death from the pod, which steps a release has, and what is written about it.
// Package kyuubi does the steps, and package releaser works through them. Neither
// imports the other: this package is all that they share, so each is tested without the
// other. It calls nothing, so the proof of a death is a function of the pod.
//
// Kyuubi keeps a registration for each engine, a Spark driver that serves SQL to many
// sessions. A driver that is killed cannot remove its registration, so Kyuubi sends
// users to the dead engine until the registration expires. A release removes the
// registration first and closes the sessions later. So a client that reconnects starts
// a new engine, and a client that is still connected can read how its statement ended.
//
// # Why only Kyuubi
//
// The steps need three things: a registration with an address, which proves whose it
// is; a label that only the driver's pod has; and sessions that outlive it. Apache Livy
// and Jupyter Enterprise Gateway have none of the three. They look for dead drivers
// themselves, keep no address, label executors too, and end everything with one call.
// They only lack the reason, and the pod has that.
//
// # Whom it may hurt
//
// Anyone who may create pods can forge their labels. So the releaser only compares what
// a pod says: [Engine] holds keys, never a place to dial. A healthy engine is safe for
// two reasons. A registration is removed only if it has both keys of the dead pod and
// its address, which the kubelet wrote. And sessions are closed only if such a
// registration was found, after the death or while the pod ran.
package gateway

import (
	"context"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Name is the name of the gateway in marks, metrics and Events.
const Name = "kyuubi"

// Label is the label of an engine's driver, and of no executor. Its value is the
// [Engine]'s Reference.
const Label = spark.KyuubiTagLabel

// Gateway is one Kyuubi, as the releaser needs it. If another try does not help, the
// error is a [*Refusal]; any other error is worth another try. Each method may be
// called again after it succeeded, and after the process restarted in the middle of it.
type Gateway interface {
	// Instance returns a name that separates its registrations from another Kyuubi's.
	Instance() string
	// Engine returns the keys by which Kyuubi knows a driver. ok is false if the driver
	// is not one of its engines.
	Engine(spark.Pod) (e Engine, ok bool)
	// Registrations returns the registrations that have the keys and an address of the
	// engine. They prove that the dead pod was this engine. None means that it is not
	// registered, or no longer.
	Registrations(context.Context, Engine) ([]Registration, error)
	// Look returns the registrations of each of many running engines, in the order of
	// the engines. It reads once for all of them.
	Look(context.Context, []Engine) ([][]Registration, error)
	// Deregister removes the registrations that were found, and no others, or returns
	// [ErrForeign].
	Deregister(context.Context, *Release) error
	// CloseSessions closes the engine's sessions on every server that the release has
	// not finished, and returns the result for each server. An error means that no
	// server was called.
	CloseSessions(context.Context, *Release) ([]Closed, error)
	// Configuration returns a digest of the files that are read again for each release.
	// When it changes, the releaser tries refused releases again.
	Configuration() string
}

// Engine is a driver in Kyuubi's terms. No field is empty.
type Engine struct {
	Reference   string   `json:"reference"`   // the handle of the session that launched it
	Application string   `json:"application"` // Spark's id, the label spark-app-selector
	Namespace   string   `json:"namespace"`   // of the pod
	Addresses   []string `json:"addresses"`   // of the pod alone, from its status
}

// Closed is the result for one server.
type Closed struct {
	Server   string // its name, which it keeps as long as its sessions
	Sessions int    // that were closed, whether or not there is an error
	// Unreachable is true if the server could not be reached.
	Unreachable bool
	Err         error // it may have sessions left
}

// Registration is a place in which Kyuubi keeps an engine. Only package kyuubi can
// read it.
type Registration string
