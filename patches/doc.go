// Package patches changes Spark's pods, and the Services of Spark's drivers, as
// a rule says.
//
// A patch is a function in a file of its own, which opens with what it sets,
// when it does not, and why. [Apply] runs them in the order of the list all. A
// patch is total, changes nothing the user has set, and finds what it did in an
// earlier invocation as it would have done it, so that applying twice is the
// same as once. The exception are our own stamps, which always tell the truth of
// the last invocation.
//
// A patch changes the typed pod and, with the same call of a method of [Pod],
// records the JSON patch operation. So each patch sees what those before it did,
// and what our types do not know of in a pod is never touched.
package patches
