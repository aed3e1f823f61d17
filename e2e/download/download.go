// Package download repeats downloads that fail.
package download

import (
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
)

// Try calls a function that downloads, and again if it fails: for a minute a mirror may
// be unavailable, or another program may hold apt's lock. It reports each failure
// except the last, which it returns.
func Try(progress io.Writer, what string, do func() error) error {
	left := wait.Backoff{Steps: 5, Duration: 5 * time.Second, Factor: 2}
	again := left.Steps
	return retry.OnError(left, func(err error) bool {
		if again--; again > 0 {
			fmt.Fprintf(progress, "  %s failed and is tried again: %v\n", what, err)
		}
		return true
	}, do)
}
