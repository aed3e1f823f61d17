// Package compile says a policy in CEL, the language of Kubernetes' own admission
// policies. [Policy] returns MutatingAdmissionPolicies that do in the API server what the
// webhook does: to drivers, to executors, and to drivers' Services.
//
// Each is a list of variables and one JSON patch. The API server computes a variable only
// if another one needs it, and once a pod. Most variables are the same for all rules:
// they say what packages spark and patches say in Go. Rules appear as lists of names:
//
//	variables.rule in ['default/driver', 'gentle/driver'] ? ...
//
// So a rule costs a few bytes, and rules with the same probe share it.
//
// What CEL cannot say is refused, or it is one of the [Differences]. Tests of the module
// e2e compare both on a real API server.
package compile
