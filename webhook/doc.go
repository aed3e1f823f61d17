// Package webhook answers the API server's admission reviews: /mutate and /audit for
// Spark's pods and the Services of drivers, /validate for pods.
//
// It has no credentials, calls no server and keeps nothing between reviews: an answer
// depends only on the review and the policy.
//
// The API server's failurePolicy Ignore covers a webhook that cannot be reached or
// answers nonsense. It does not cover a refusal, a patch that does not apply, or an
// invalid result: the user then has no pod. So nothing here refuses because
// spark-vitals failed. A panic or an error answers "allowed", with a warning, a counter
// and a log line. An envelope that is not an admission review gets an HTTP error, which
// the API server treats as a failed call.
package webhook
