// Package job runs the jobs of spark-vitals: their flags, log and client of the API
// server; the servers of metrics and health; the election of one replica; Events and
// annotations on pods.
//
// The releaser and the stall watch are controllers, and controller-runtime runs them
// ([Elected]). The recorder has its own informers on client-go: all its replicas work,
// each namespace has a watch, and a watch that breaks resumes where it was. The keeper
// of certificates watches nothing. The webhook calls no API server, and its servers
// limit what any client may ask of them.
package job
