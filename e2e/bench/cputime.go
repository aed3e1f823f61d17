package main

import (
	"syscall"
	"time"
)

// cpuTime returns the CPU time that this process has used. On a shared machine it says
// more than the time of day.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
