package job

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// Whatever an answer of the API server repeats, a line of the log is short.
func TestLogLinesAreShort(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	var log bytes.Buffer
	new(Flags).Log(&log).Warn(long, "error", errors.New(long), "name", long, "stack", "ours")
	if log.Len() > 4<<10 || !strings.Contains(log.String(), `"level":"WARN"`) || !strings.Contains(log.String(), `"stack":"ours"`) {
		t.Errorf("%d bytes: %.200s", log.Len(), log.String())
	}
}
