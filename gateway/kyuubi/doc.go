// Package kyuubi makes Apache Kyuubi forget a dead engine: it removes the
// engine's registration, and then closes its sessions on every server.
//
// # How Kyuubi keeps engines
//
// An engine registers an ephemeral node in ZooKeeper, below the space that its
// users look in. For kyuubi.ha.namespace "kyuubi":
//
//	/kyuubi_1.12.0_USER_SPARK_SQL/alice/default/serverUri=10.244.0.110:44057;version=1.12.0;...;refId=f0c02483-...;sequence=0000000001
//	 namespace,    share type     user  subdomain  or pool
//	 version       level          group, server
//
// In the node's name refId is the driver's label kyuubi-unique-tag,
// kyuubi.engine.id its label spark-app-selector, and serverUri begins with its
// pod's IP. All three must be the dead pod's.
//
// Sessions live in the memory of the server that opened them, and each server
// lists and closes only its own. They name their engine by engineId, which is
// kyuubi.engine.id again; it is empty while a session has no engine, and so an
// empty key would match them all.
//
// # Why ZooKeeper
//
// The one node is deleted there, by its full name. Kyuubi's own call, DELETE
// /api/v1/admin/engine, removes every engine of the space: one that registers
// between the last look and the call is shut down, though it is healthy. So it is
// never made.
//
// What an answer means is in answer.go, as a table.
package kyuubi
