// Package webhook answers the API server's admission reviews: /mutate and
// /audit for Spark's pods and the Services of drivers, /validate for pods.
//
// It holds no credentials, calls nobody and keeps nothing between reviews: an
// answer is a function of the review and the policy.
//
// The API server's failurePolicy Ignore covers a webhook that cannot be reached
// or answers nonsense. It does not cover a refusal, a patch that does not apply
// or a result that is invalid: those cost the user his pod. So nothing here
// refuses because something of ours failed. A panic or an error answers
// "allowed", with a warning, a counter and a log line; an envelope that is no
// admission review gets an HTTP error, which is a failed call to the API server.
package webhook
