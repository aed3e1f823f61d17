package download

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTry(t *testing.T) {
	for failures, fails := range map[int]bool{0: false, 1: false, 4: false, 5: true} {
		synctest.Test(t, func(t *testing.T) {
			var said strings.Builder
			calls := 0
			err := Try(&said, "a download", func() error {
				if calls++; calls <= failures {
					return errors.New("away")
				}
				return nil
			})
			if reported := strings.Count(said.String(), "away"); (err != nil) != fails || calls != min(failures+1, 5) || reported != min(failures, 4) {
				t.Errorf("of %d failures: %v, %d calls, %d reported", failures, err, calls, reported)
			}
		})
	}
}
