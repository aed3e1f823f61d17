// Package eventually waits in tests for what happens soon. It waits for ten minutes,
// because a machine may be slow or pause, but at most for half of -timeout, so that a
// test says what it waited for.
package eventually

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"
)

const interval = 50 * time.Millisecond

// limit returns how long a test may wait. It cannot ask t.Deadline, which panics in a
// bubble of synctest.
func limit() time.Duration {
	const most = 10 * time.Minute
	if timeout, ok := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration); ok && timeout > 0 {
		return min(most, timeout/2)
	}
	return most
}

// True polls until a condition holds. If it does not hold in time, the test fails and
// says what it waited for.
func True(t *testing.T, what string, holds func() bool) {
	t.Helper()
	Succeeds(t, what, func(context.Context) error {
		if holds() {
			return nil
		}
		return errors.New("it does not hold")
	})
}

// Succeeds polls until an attempt succeeds. If none does in time, the test fails and
// says what it waited for, and the last error.
func Succeeds(t *testing.T, what string, attempt func(context.Context) error) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(interval) {
		err := attempt(t.Context())
		if err == nil {
			return
		}
		if time.Since(begin) > limit() || t.Context().Err() != nil {
			t.Fatalf("waited %s for: %s: %v", time.Since(begin).Round(time.Second), what, err)
		}
	}
}
