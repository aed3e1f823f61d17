// Package releaser watches drivers that Kyuubi launched, and has Kyuubi forget
// those that died. It is Kyuubi's loop and promises nothing of other gateways; see
// package gateway for why.
//
// # What starts a release
//
// A driver is due when its record has a state, which the recorder wrote, and no
// mark of a release yet; see [gateway.Due]. The record is only the hand-over. The
// proof is read anew: the pod has the same UID, Spark's container is terminated
// in its status, no other pod carries its keys, and the gateway's registration
// carries them and its address. A pod that is gone cannot be asked: there the
// object that the watch saw last stands for it, and since nobody can write a
// record on it any more, its status alone starts the release. So it does where the
// pod is being deleted.
//
// # Lives
//
// An engine that freezes, or is asked to end, is not registered any more when it
// has died. So each replica looks at the registrations of engines that run, and
// remembers each one's; where there is none after the death, that is the proof.
// It is in memory alone while the engine is registered. Where the registration has
// vanished and the engine runs on, the leader writes it to the journal.
//
// # Sessions
//
// They are closed later than the engine is deregistered, so that their clients can
// read the error. When stands in the journal, and until then nothing waits but an
// entry of the queue.
//
// # Restarts
//
// What is removed was the proof. So before anything is removed the release is
// written to a [journal], and a new process goes on from there; without an entry
// it begins anew from the pod. Each step may be done twice. What a process that
// ends takes along is only this: a pod that died and was deleted before its
// registration was found. What was seen at looks is lost if all replicas end at once.
//
// # Failures
//
// Every release is tried on its own until it is done, with a pause that grows to
// ten seconds, well below the forty and more that ZooKeeper keeps a dead
// registration, so that it is still found when ZooKeeper is back. A
// [gateway.Refusal] is told once, and tried again in ten minutes or when the
// gateway's configuration changes.
package releaser
