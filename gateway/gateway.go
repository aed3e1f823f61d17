// Package gateway is what a release of a dead engine of Apache Kyuubi's is: what
// of a pod proves the death, which steps are done, and what is written about it.
// Package kyuubi does them; package releaser works through them.
//
// Kyuubi keeps a registration of each engine, a Spark driver that serves SQL to
// many sessions. A driver that is killed cannot remove it, so users are sent to
// the dead until it expires. A release removes the registration first and closes
// the sessions later, so that whoever reconnects finds no engine and starts a new
// one, and whoever is still connected can read what became of his statement.
//
// # Why only Kyuubi
//
// The steps need a registration with an address, which proves whose it is, a label
// that is on no other pod than the driver, and sessions that outlive it. Apache
// Livy and Jupyter Enterprise Gateway have none of the three: they look for dead
// drivers themselves, keep no address, label executors too, and one call ends all.
// What they lack is the reason, and that stands on the pod.
//
// # Whom it may hurt
//
// Whoever may create pods can forge their labels. So what a pod says is only
// ever compared: [Engine] holds keys, never a place to dial. A healthy engine is
// safe because a registration is touched only when it carries both keys of the
// dead pod and its address, which the kubelet wrote; and because sessions are
// closed only after such a registration was found, when the pod had died or while
// it ran.
package gateway

import (
	"context"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Name of the gateway, in marks, metrics and Events.
const Name = "kyuubi"

// Label of an engine's driver, and of no executor. Its value is the [Engine]'s
// Reference.
const Label = spark.KyuubiTagLabel

// A Gateway is one Kyuubi, as the releaser needs it. An error is a [*Refusal], where trying again
// does not help, or else worth another try. Each method may be called again
// after it succeeded, and after the process was restarted in the middle of it.
type Gateway interface {
	// Instance is what tells its registrations from those of another Kyuubi.
	Instance() string
	// Engine tells by what Kyuubi knows a driver; ok is false where the driver is
	// none of its engines.
	Engine(spark.Pod) (e Engine, ok bool)
	// Registrations are those that carry the keys and an address of the engine:
	// the proof that the dead pod was this engine. None means that it is not
	// registered, or not any more.
	Registrations(context.Context, Engine) ([]Registration, error)
	// Look at the registrations of many engines that run, in their order: those that
	// carry the keys and an address of each. It reads once, whatever their number.
	Look(context.Context, []Engine) ([][]Registration, error)
	// Deregister removes the registrations that were found, and no others, or says
	// [ErrForeign].
	Deregister(context.Context, *Release) error
	// CloseSessions closes the engine's sessions on every server that the release
	// has not finished. What came of it is told of each; an error is of none.
	CloseSessions(context.Context, *Release) ([]Closed, error)
	// Configuration is a digest of what is read anew from files. When
	// it changes, what was refused is tried again.
	Configuration() string
}

// Engine is a driver in the words of Kyuubi. No field is empty.
type Engine struct {
	Reference   string   `json:"reference"`   // the handle of the session that launched it
	Application string   `json:"application"` // Spark's id, the label spark-app-selector
	Namespace   string   `json:"namespace"`   // of the pod
	Addresses   []string `json:"addresses"`   // of the pod alone, from its status
}

// Closed is what came of one server.
type Closed struct {
	Server   string // its name, which it keeps as long as its sessions
	Sessions int    // that were closed, whether or not there is an error
	// Unreachable: nothing was heard of it.
	Unreachable bool
	Err         error // it may have sessions left
}

// Registration is a place where Kyuubi keeps an engine: opaque to all but package
// kyuubi.
type Registration string
