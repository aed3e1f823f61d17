// Package job is how the jobs of spark-vitals run: their flags, log and client of
// the API server; the servers of metrics and health; the election of one replica;
// Events and annotations on pods.
//
// The releaser and the stall watch are controllers, and controller-runtime runs
// them ([Elected]). The recorder has informers of its own on client-go: all its
// replicas work, each namespace has a watch, and a watch that breaks off goes on
// where it was. The keeper of certificates watches nothing. The webhook calls no API
// server, and has servers that bound what strangers may ask of them.
package job
