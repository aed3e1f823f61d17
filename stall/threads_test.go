package stall_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/stall"
)

// Each file of testdata/threads has what real Spark of a version answered while its
// driver hung, waited or worked in one way: the name of the part says how, and how many
// tasks ran. Wanted is what is read of it.
func TestLookAt(t *testing.T) {
	for _, file := range golden.Files(t, "testdata/threads/*.txtar") {
		var got strings.Builder
		for _, part := range file.Files {
			name, tasks, ok := strings.Cut(part.Name, " ")
			running, err := strconv.ParseInt(tasks, 10, 64)
			if !ok {
				continue // what is wanted
			}
			if err != nil {
				t.Fatal(err)
			}
			found := stall.LookAt(threads(t, part.Data), running)
			mark := stall.NewMark(time.Unix(0, 0), time.Unix(0, 0), annotations.StallEvidence{UI: annotations.UIAnswers, Threads: &found})
			fmt.Fprintf(&got, "%s: %s, %s\n  %s\n", name, found.Do, mark.Confidence, mark.Message)
		}
		file.Check(t, "want", got.String())
	}
}

func threads(t *testing.T, text []byte) (all []stall.Thread) {
	t.Helper()
	var read []struct {
		ThreadID          int64
		ThreadName        string
		ThreadState       string
		StackTrace        struct{ Elems []string }
		BlockedByThreadID int64
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, r := range read {
		all = append(all, stall.Thread{ID: r.ThreadID, Name: r.ThreadName, State: r.ThreadState, Stack: r.StackTrace.Elems, BlockedBy: r.BlockedByThreadID})
	}
	return all
}
