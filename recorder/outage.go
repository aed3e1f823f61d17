package recorder

import (
	"sync"
	"time"
)

// outage is one of the watch. A reflector reports only failures, and tries again at
// least every minute. So a failure long after the last one is the first of another
// outage.
type outage struct {
	mutex       sync.Mutex
	since, last time.Time
}

const outageGap = 2 * time.Minute

func (o *outage) failed(now time.Time) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if now.Sub(o.last) > outageGap {
		o.since = now
	}
	o.last = now
}

// lasts reports whether the outage has lasted for maxBlind.
func (o *outage) lasts(now time.Time) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return now.Sub(o.last) <= outageGap && now.Sub(o.since) >= maxBlind
}
