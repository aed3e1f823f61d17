// Package kyuubi makes Apache Kyuubi forget a dead engine: it removes the engine's
// registration, and then closes its sessions on every server.
//
// # How Kyuubi keeps engines
//
// An engine registers an ephemeral node in ZooKeeper, below the space in which its
// users look. For kyuubi.ha.namespace "kyuubi":
//
//	/kyuubi_1.12.0_USER_SPARK_SQL/alice/default/serverUri=10.244.0.110:44057;version=1.12.0;...;refId=f0c02483-...;sequence=0000000001
//	 namespace,    share type     user  subdomain  or pool
//	 version       level          group, server
//
// In the node's name, refId is the driver's label kyuubi-unique-tag, kyuubi.engine.id
// is its label spark-app-selector, and serverUri begins with its pod's IP. All three
// must match the dead pod.
//
// Sessions are in the memory of the server that opened them, and each server lists and
// closes only its own. A session names its engine by engineId, which equals
// kyuubi.engine.id. It is empty while a session has no engine, so an empty key would
// match all such sessions.
//
// # Why ZooKeeper
//
// In ZooKeeper, one node is deleted by its full name. Kyuubi's own call, DELETE
// /api/v1/admin/engine, removes every engine of the space. An engine that registers
// between the last look and the call would be shut down, although it is healthy. So
// this package never makes that call.
//
// The table in answer.go gives the meaning of each answer.
package kyuubi
