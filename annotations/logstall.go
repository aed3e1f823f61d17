package annotations

import (
	"fmt"
	"time"
)

// Bounds of [LogStallAfter]. Anyone who may create pods sets it, and it decides what a
// driver costs: its log is read about once in that time.
const (
	MinLogStall = time.Minute
	MaxLogStall = 7 * 24 * time.Hour
)

// ParseLogStall reads the value of [LogStallAfter]: whole seconds from [MinLogStall]
// to [MaxLogStall]. A rule and a setting spell it the same.
func ParseLogStall(text string) (time.Duration, error) {
	after, err := time.ParseDuration(text)
	if err == nil && after >= MinLogStall && after <= MaxLogStall && after%time.Second == 0 {
		return after, nil
	}
	return 0, fmt.Errorf(`must be a time in whole seconds from %s to %s, such as "45m" or "1h30m"`, short(MinLogStall), short(MaxLogStall))
}

// short writes a duration without the zeros: "1m", not "1m0s".
func short(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
