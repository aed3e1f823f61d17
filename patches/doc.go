// Package patches changes Spark's pods, and the Services of Spark's drivers, as a rule
// requires.
//
// A patch is a function in a file of its own. Its comment gives what it sets, when it
// does not, and why. [Apply] runs the patches in the order of the list all. A patch is
// total and changes nothing that the user has set. It finds what it did in an earlier
// invocation as it would have done it, so applying it twice is the same as once. Only
// the stamps differ: they always describe the last invocation.
//
// A patch changes the typed pod and, with the same call of a method of [Pod], records
// the JSON patch operation. So each patch sees what those before it did, and no patch
// touches a field of a pod that the Go types do not have.
package patches
