// Package check tells, on a user's own cluster, whether spark-vitals works there,
// and if not, which of the usual causes it is. It makes nothing: each question
// to the API server is a dry run.
package check
