package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/pages"
	"github.com/spark-vitals/spark-vitals/internal/prose"
)

// What people read keeps to the style. "go test ./docs -run Prose -v" also prints
// warnings.
func TestProse(t *testing.T) {
	t.Chdir(pages.Root())
	rules, err := prose.Style("docs/style/SparkVitals")
	if err != nil {
		t.Fatal(err)
	}
	texts := readers(t)
	for _, found := range prose.Check(rules, texts) {
		switch {
		case found.Level == "error":
			t.Error(found)
		case found.Level != "suggestion":
			t.Log(found)
		}
	}
}

// readers' texts: pages, the chart, and the strings of the program.
func readers(t *testing.T) (texts []prose.Text) {
	t.Helper()
	for pattern, read := range map[string]func(string) ([]prose.Text, error){
		"*.md":                                    prose.Markdown,
		"docs/*.md":                               prose.Markdown,
		"charts/spark-vitals/README.md":           prose.Markdown,
		"charts/spark-vitals/values.yaml":         prose.YAML,
		"charts/spark-vitals/files/alerts.yaml":   prose.YAML,
		"charts/spark-vitals/templates/*.yaml":    prose.YAML,
		"charts/spark-vitals/templates/NOTES.txt": prose.Notes,
		"oom/testdata/advice/*.txt":               prose.Messages,
		"policy/rulesets/*.yaml":                  prose.YAML,
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, file := range files {
			texts = append(texts, must(t, read, file)...)
		}
	}
	err := filepath.WalkDir(".", func(file string, entry os.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{"e2e", "docs", "bin", ".git", "captured", "generate", "golden", "kyuubitest", "pages", "prose"}, name):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			texts = append(texts, must(t, prose.Go, file)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func must(t *testing.T, read func(string) ([]prose.Text, error), file string) []prose.Text {
	t.Helper()
	texts, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
