// Package stall judges whether a driver whose log is silent hangs. It computes;
// who asks, and tells, is package watch.
//
// A [Track] says when a log is to be asked for and what its silence means, with
// rotated logs, restarts and clocks that differ. [Crowd] says when so many are
// silent that the fault is more likely ours. [Judge] weighs what else is seen of
// a silent driver, and says how sure it is: silence alone proves nothing, because
// a healthy driver whose log level is WARN, or that waits for a long task, is as
// silent. That is why a stall is reported, and nothing is ended.
package stall
