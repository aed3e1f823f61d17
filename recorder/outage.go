package recorder

import (
	"sync"
	"time"
)

// outage of the watch. A reflector tells of failures only, and tries again at
// least every minute: a failure long after the last one is the first of another
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

// lasts tells whether it has been going on for maxBlind.
func (o *outage) lasts(now time.Time) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return now.Sub(o.last) <= outageGap && now.Sub(o.since) >= maxBlind
}
