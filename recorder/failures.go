package recorder

import (
	"sync"
	"time"
)

// failures are those of a watch. A reflector reports only failures, and tries again at
// least every minute. So a failure long after the last one begins a new series.
type failures struct {
	mutex       sync.Mutex
	since, last time.Time
}

const failuresGap = 2 * time.Minute

func (f *failures) add(now time.Time) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if now.Sub(f.last) > failuresGap {
		f.since = now
	}
	f.last = now
}

// persist reports whether the watch has failed for maxBlind.
func (f *failures) persist(now time.Time) bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return now.Sub(f.last) <= failuresGap && now.Sub(f.since) >= maxBlind
}
