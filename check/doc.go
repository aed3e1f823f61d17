// Package check finds out, on a user's own cluster, whether spark-vitals works there,
// and which of the usual causes it is if not. It makes nothing: each request to the
// API server is a dry run.
package check
