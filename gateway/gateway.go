// Package gateway is the contract between a dead driver and the gateway that
// launched it: what of a pod proves the death, what a gateway is asked to do,
// and what is written about it. Package kyuubi is a gateway; package releaser
// works through the steps.
//
// A gateway such as Apache Kyuubi keeps a registration of each engine, a Spark
// driver that serves SQL to many sessions. A driver that is killed cannot remove
// it, so users are sent to the dead until it expires. A release removes the
// registration first and closes the sessions then, so that whoever reconnects
// finds no engine and starts a new one.
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

// A Gateway forgets dead engines. An error is a [*Refusal], where trying again
// does not help, or else worth another try. Each method may be called again
// after it succeeded, and after the process was restarted in the middle of it.
type Gateway interface {
	// Name of the gateway, one lower-case word.
	Name() string
	// Instance of the gateway: what tells its registrations from those of another
	// of that name.
	Instance() string
	// Label whose value is the [Engine]'s Reference; every driver that the
	// gateway launches carries it.
	Label() string
	// Engine tells by what the gateway knows a driver; ok is false where the
	// driver is none of its engines.
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
	// Configuration is a digest of what the gateway reads anew from files. When
	// it changes, what was refused is tried again.
	Configuration() string
}

// Engine is a driver in the words of its gateway. No field is empty.
type Engine struct {
	Reference   string   `json:"reference"`   // the gateway's own key; for Kyuubi the handle of the session that launched it
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

// Registration is a place where the gateway keeps an engine, in the gateway's own
// notation: opaque to everybody else.
type Registration string
