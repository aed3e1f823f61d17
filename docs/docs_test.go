package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// Each link leads to a file and a heading that exist, and docs/README.md links to each
// page.
func TestLinks(t *testing.T) {
	all := allPages(t)
	reached := map[string]bool{}
	for _, page := range all {
		for _, link := range page.Links {
			if strings.Contains(link, "://") {
				continue
			}
			file, heading, _ := strings.Cut(link, "#")
			to := page.Path
			if file != "" {
				to = path.Join(path.Dir(page.Path), file)
			}
			if page.Path == "docs/README.md" {
				reached[to] = true
			}
			if _, err := os.Stat(filepath.Join(pages.Root(), to)); err != nil {
				t.Errorf("%s links to %s: %v", page.Path, link, err)
			}
			if i := slices.IndexFunc(all, func(p pages.Page) bool { return p.Path == to }); heading != "" && (i < 0 || !slices.Contains(all[i].Anchors, heading)) {
				t.Errorf("%s links to %s, and there is no such heading", page.Path, link)
			}
		}
	}
	for _, page := range all {
		if !reached[page.Path] && page.Path != "docs/README.md" {
			t.Errorf("docs/README.md does not lead to %s", page.Path)
		}
	}
}

// The pages name each metric of the code, and no other.
func TestMetrics(t *testing.T) {
	name := regexp.MustCompile(`spark_vitals_[a-z_]*[a-z]`)
	inCode, inPages := map[string]bool{}, map[string]bool{}
	for _, m := range metrics(t) {
		inCode[m] = true
	}
	for _, page := range allPages(t) {
		for _, m := range name.FindAllString(page.Text, -1) {
			inPages[m] = true
			if !inCode[m] {
				t.Errorf("%s names the metric %s, which is not in the code", page.Path, m)
			}
		}
	}
	for m := range inCode {
		if !inPages[m] {
			t.Errorf("no page names the metric %s", m)
		}
	}
}

// metrics returns the names of the metrics in the code.
func metrics(t *testing.T) (names []string) {
	t.Helper()
	for _, file := range sources(t) {
		names = append(names, all(read(t, file), `"(spark_vitals_[a-z_]+)"`)...)
	}
	return names
}

// sources returns the Go files of the program, without tests.
func sources(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "e2e" || name == "internal" || name == ".git"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func allPages(t *testing.T) []pages.Page {
	t.Helper()
	all, err := pages.All()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// remedy.md has a row for each reason why a remedy does nothing, in the code's words. A
// user looks for the words of a message.
func TestRefusals(t *testing.T) {
	page := read(t, "remedy.md")
	reasons := all(read(t, "../remedy/table.go"), `says\("([^"]+)",`)
	if len(reasons) < 5 {
		t.Fatal("reasons", reasons)
	}
	for _, reason := range reasons {
		if !strings.Contains(page, "\n| "+reason+" |") {
			t.Errorf("remedy.md has no row for %q", reason)
		}
	}
}
