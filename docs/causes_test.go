package docs

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/oom"
)

// causes.md has a row for each cause of the code, says whether the cause is an OOM, and
// quotes the golden files' messages about it.
func TestCauses(t *testing.T) {
	text := read(t, "causes.md")
	var says strings.Builder
	for _, cause := range causes(t) {
		row := regexp.MustCompile("(?m)^\\| \\[`" + cause + "`\\]\\(#" + strings.ToLower(cause) + "\\) \\|[^|]+\\| (yes|no) \\|").FindStringSubmatch(text)
		if row == nil {
			t.Errorf("causes.md has no row for %s", cause)
		} else if (row[1] == "yes") != oom.Cause(cause).IsOOM() {
			t.Errorf("causes.md says %s of whether %s is an OOM", row[1], cause)
		}
		fmt.Fprintf(&says, "### %s\n", cause)
		for _, message := range messages(t, cause) {
			fmt.Fprintf(&says, "> %s\n\n", message)
		}
	}
	quote := regexp.MustCompile(`(?m)^> (.*)$`).FindStringSubmatch(read(t, "../README.md"))
	if quote == nil || !strings.Contains(read(t, "../oom/testdata/measured.txt"), quote[1]) {
		t.Error("what README.md quotes is not said")
	}
	if count := fmt.Sprintf("[%d causes]", len(causes(t))); !strings.Contains(read(t, "../README.md"), count) {
		t.Errorf("README.md does not say %s", count)
	}
	golden.HoldsBetween(t, "causes.md", "says", says.String())
}

// causes in the order of the code.
func causes(t *testing.T) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Cause = "(\w+)"`).FindAllStringSubmatch(read(t, "../oom/causes.go"), -1) {
		all = append(all, m[1])
	}
	if len(all) < 17 {
		t.Fatalf("only the causes %v are found", all)
	}
	return all
}

// messages returns what the golden files say about a driver and about an executor.
func messages(t *testing.T, cause string) (all []string) {
	t.Helper()
	for _, role := range []string{"driver", "executor"} {
		files, err := filepath.Glob("../oom/testdata/causes/" + strings.ToLower(cause) + "-" + role + "*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			plainest := slices.MinFunc(files, func(a, b string) int { return len(a) - len(b) })
			_, want, _ := strings.Cut(read(t, plainest), "-- want --\n")
			all = append(all, regexp.MustCompile(`(?m)^message: (.*)$`).FindStringSubmatch(want)[1])
		}
	}
	if all == nil {
		t.Errorf("nothing is said of %s", cause)
	}
	return all
}
