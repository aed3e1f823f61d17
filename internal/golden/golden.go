// Package golden compares results of tests with files. "go test -update" rewrites the
// files.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write golden files anew")

// Updating reports whether the tests were started with -update.
func Updating() bool { return *update }

// File is a golden file in txtar format: a comment that gives the reason, the input,
// and the parts that are compared.
type File struct {
	Name string // without folder and extension
	Path string
	*txtar.Archive
}

// Files reads all golden files that match a pattern. It fails if there is none.
func Files(t testing.TB, pattern string) (all []File) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files %s (%v)", pattern, err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(archive.Comment) == 0 {
			t.Fatalf("%s does not say why", path)
		}
		all = append(all, File{strings.TrimSuffix(filepath.Base(path), ".txtar"), path, archive})
	}
	return all
}

// Part returns a copy of the first part with a name, or nil.
func (f File) Part(name string) []byte {
	if i := f.index(name); i >= 0 {
		return append([]byte{}, f.Files[i].Data...) // not nil: an empty part exists
	}
	return nil
}

func (f File) index(name string) int {
	return slices.IndexFunc(f.Files, func(part txtar.File) bool { return part.Name == name })
}

// Check compares the first part with a name to what a test got.
func (f File) Check(t testing.TB, name, got string) {
	t.Helper()
	i := f.index(name)
	if i < 0 {
		i = len(f.Files)
		f.Files = append(f.Files, txtar.File{Name: name})
	}
	f.CheckAt(t, i, got)
}

// CheckAt compares the part at an index with what a test got.
func (f File) CheckAt(t testing.TB, i int, got string) {
	t.Helper()
	want := string(f.Files[i].Data)
	if *update && got != want {
		f.Files[i].Data = []byte(got)
		write(t, f.Path, string(txtar.Format(f.Archive)))
		return
	}
	compare(t, f.Path+", "+f.Files[i].Name, want, got)
}

// Holds compares a whole file with what a test made.
func Holds(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		write(t, path, got)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, path, string(want), got)
}

// HoldsBetween compares the lines of a page between <!-- marker --> and
// <!-- /marker --> with what a test made.
func HoldsBetween(t testing.TB, path, marker, got string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+marker+" -->\n", "<!-- /"+marker+" -->"
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s lacks the markers of %s", path, marker)
	}
	Holds(t, path, before+begin+got+end+after)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func compare(t testing.TB, name, want, got string) {
	t.Helper()
	if got != want {
		t.Errorf("%s (\"make golden\" or \"go test -update\" writes it anew)\n%s", name, diff.Diff("want", []byte(want), "got", []byte(got)))
	}
}
