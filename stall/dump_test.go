package stall_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/stall"
)

// Real dumps of HotSpot 17 with each of its collectors, after a line of the program.
// With one line, which is what the stall watch reads first, only the end is seen.
func TestDumpIsNoSignOfTheDriver(t *testing.T) {
	files, err := filepath.Glob("testdata/dumps/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words, dump, _ := strings.Cut(string(text), "\n")
		lines := strings.Split(strings.TrimSuffix(dump, "\n"), "\n")
		n := len(lines)
		for name, c := range map[string]struct {
			log  []string
			last int // its number
			may  bool
		}{
			"all":             {append([]string{words}, lines...), 1, false},
			"twice":           {append(append([]string{words}, lines...), lines...), 1, false},
			"between":         {append(append([]string{words}, lines...), words), n + 2, false},
			"nothing else":    {lines, 1, false},
			"its last line":   {lines[n-1:], 1, true},
			"its last two":    {lines[n-2:], 2, true},
			"its last 50":     {lines[n-50:], 50, true},
			"its end, a line": {append(lines[n-50:n:n], words), 51, false},
			"not its end":     {append([]string{words}, lines[:n/2]...), 1 + n/2, false},
		} {
			got, err := stall.ReadTail(stamped(c.log))
			if want := (stall.Tail{Last: second(c.last), MayBeDump: c.may}); got != want || err != nil {
				t.Errorf("%s, %s: %+v, %v, want %+v", file, name, got, err, want)
			}
		}
	}
}

// stamped returns lines as the API server does, one written each second.
func stamped(lines []string) string {
	var log strings.Builder
	for i, line := range lines {
		log.WriteString(second(i+1).Format(time.RFC3339Nano) + " " + line + "\n")
	}
	return log.String()
}

func second(n int) time.Time { return time.Date(2026, 11, 21, 12, 0, n, 1, time.UTC) }
