package stall_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/spark-vitals/spark-vitals/stall"
)

var update = flag.Bool("update", false, "write the wanted part of golden files anew")

// Each file of testdata/threads has what real Spark of a version answered while its
// driver hung, waited or worked in one way: the name of the part says how, and how many
// tasks ran. Wanted is what is read of it.
func TestLookAt(t *testing.T) {
	files, err := filepath.Glob("testdata/threads/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		file, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		parts, want := file.Files, ""
		if last := len(parts) - 1; parts[last].Name == "want" {
			parts, want = parts[:last], string(parts[last].Data)
		}
		for _, part := range parts {
			name, tasks, _ := strings.Cut(part.Name, " ")
			running, err := strconv.Atoi(tasks)
			if err != nil {
				t.Fatal(err)
			}
			found := stall.LookAt(threads(t, part.Data), running)
			fmt.Fprintf(&got, "%s: %s, %s\n  %s\n", name, found.Doing, found.Confidence(), found)
		}
		if *update {
			file.Files = append(parts, txtar.File{Name: "want", Data: []byte(got.String())})
			if err := os.WriteFile(path, txtar.Format(file), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if got.String() != want {
			t.Errorf("%s (go test -update writes it anew):\n%s", path, got.String())
		}
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
		BlockedByLock     string
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, r := range read {
		all = append(all, stall.Thread{ID: r.ThreadID, Name: r.ThreadName, State: r.ThreadState, Stack: r.StackTrace.Elems, BlockedBy: r.BlockedByThreadID, Lock: r.BlockedByLock})
	}
	return all
}
