// Package eventually waits in tests for what happens soon. It waits for ten minutes,
// because a machine may be slow or stand still, or for less if the tests' own deadline
// comes earlier.
package eventually

import (
	"context"
	"errors"
	"testing"
	"time"
)

const (
	patience = 10 * time.Minute
	interval = 50 * time.Millisecond
)

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
	begin := time.Now()
	end := begin.Add(patience)
	if deadline, ok := t.Deadline(); ok && deadline.Add(-5*time.Second).Before(end) {
		end = deadline.Add(-5 * time.Second) // before the whole test binary is ended
	}
	for {
		err := attempt(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("waited %s for: %s: %v", time.Since(begin).Round(time.Second), what, err)
		}
		time.Sleep(interval)
	}
}
