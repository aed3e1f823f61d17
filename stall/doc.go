// Package stall judges log stalls: whether a driver with a silent log hangs. It only
// computes; the stall watch, package watch, reads logs and reports.
//
// A [Track] says when to read a log and what its silence means, with rotated logs,
// restarts and clocks that differ. [MassSilenceOf] says when so many drivers are silent
// that the fault is more likely outside of them. [Judge] weighs other evidence about a
// silent driver, and says how sure it is. Silence alone proves nothing: a healthy
// driver is equally silent if it logs at WARN or waits for a long task. So a stall is
// reported, and nothing is ended.
package stall
