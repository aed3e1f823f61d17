// Package releaser watches drivers that Kyuubi launched, and makes Kyuubi forget those
// that died. It is Kyuubi's loop and promises nothing for other gateways; package
// gateway says why.
//
// # What starts a release
//
// A driver is due if its record has a state, which the recorder wrote, and no mark of a
// release yet; see [gateway.StageOf]. The record only hands the driver over. The proof is
// read again: the pod has the same UID, its status says that Spark's container
// terminated, no other pod has its keys, and a registration has its keys and its
// address. A pod that is gone cannot be read. Then the object that the watch saw last
// is used, and its status alone starts the release, because no one can write a record
// on it any more. The same is true for a pod that is being deleted.
//
// # Running engines
//
// An engine that freezes, or is asked to end, is no longer registered when it dies. So
// each replica looks at the registrations of running engines, and remembers them. If
// none is left after the death, they are the proof. While the engine is registered,
// they are only in memory. If the registration vanishes and the engine keeps running,
// the leader writes them to the journal.
//
// # Sessions
//
// They are closed later than the engine is deregistered, so that their clients can read
// the error. The journal says when. Until then only an entry of the queue waits.
//
// # Restarts
//
// What is removed was the proof. So before anything is removed, the release is written
// to a [journal], and a new process continues from there. Without an entry it starts
// again from the pod. Each step may be done twice. When a process ends, only this is
// lost: a pod that died and was deleted before its registration was found. If all
// replicas end at once, what they saw of running engines is lost too.
//
// # Failures
//
// Each release is tried on its own until it is done, with a pause that grows to ten
// seconds. ZooKeeper keeps a dead registration for forty seconds and more, so it is
// still found when ZooKeeper is back. A [gateway.Refusal] is reported once, and tried
// again in ten minutes or when the gateway's configuration changes.
package releaser
