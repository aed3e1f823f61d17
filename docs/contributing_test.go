package docs

import (
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/policy"
)

const contributing = "CONTRIBUTING.md"

// Each place in a list of CONTRIBUTING.md names everything of its kind, and no other
// file does. A list like that is out of date after the next change unless a test holds
// it to the code.
func TestPlacesToChange(t *testing.T) {
	text := read(t, "../"+contributing)
	for heading, kind := range kinds(t) {
		t.Run(heading, func(t *testing.T) {
			places := placesOf(text, heading)
			if len(places) < 2 || len(kind.names) < 3 {
				t.Fatalf("places %v, names %v", places, kind.names)
			}
			var listed []string
			for _, patterns := range places {
				for _, name := range kind.names {
					if !named(t, patterns, name, kind.in) {
						t.Errorf("%s does not name %s; %s lists it as a place to change", strings.Join(patterns, ", "), name, contributing)
					}
				}
				listed = append(listed, patterns...)
			}
			for _, file := range namesAll(t, kind) {
				if !slices.ContainsFunc(listed, func(pattern string) bool { return matches(t, pattern, file) }) {
					t.Errorf("%s names all of %v; add it to the list in %s", file, kind.names, contributing)
				}
			}
		})
	}
}

// Each path in the lists exists.
func TestPathsToChange(t *testing.T) {
	_, lists, _ := strings.Cut(read(t, "../"+contributing), "\n## What to change")
	for _, m := range regexp.MustCompile("`([a-zA-Z0-9_./*<>-]*/[a-zA-Z0-9_./*<>-]+)`").FindAllStringSubmatch(lists, -1) {
		if len(glob(t, strings.ReplaceAll(m[1], "<name>", "*"))) == 0 {
			t.Errorf("%s names %s, which is not there", contributing, m[1])
		}
	}
}

// kind is what can be added.
type kind struct {
	names []string
	in    func(text, name string) bool // whether a text names one
}

func kinds(t *testing.T) map[string]kind {
	t.Helper()
	patches := all(read(t, "../patches/apply.go"), `(?m)^\t\{"(\w+)", \w+\},`)
	var settings []string
	for _, name := range policy.Settings() {
		if !strings.Contains(name, ".") && !slices.Contains(policy.ProbeNames, policy.ProbeName(name)) {
			settings = append(settings, name)
		}
	}
	return map[string]kind{
		"cause of death":     {causes(t), word},
		"rule set":           {policy.RuleSets, word},
		"patch":              {patches, word},
		"setting of a pod":   {settings, word},
		"metric":             {metrics(t), word},
		"value of the chart": {values(t), value},
	}
}

// values that the chart's values.yaml documents, such as "webhook.port".
func values(t *testing.T) (all []string) {
	t.Helper()
	key := regexp.MustCompile(`^( *)([a-zA-Z]+):`)
	var path []string
	documented := false
	for line := range strings.Lines(read(t, "../charts/spark-vitals/values.yaml")) {
		m := key.FindStringSubmatch(line)
		switch {
		case strings.Contains(line, "# -- "):
			documented = true
		case m != nil && len(m[1])/2 <= len(path):
			path = append(path[:len(m[1])/2], m[2])
			if documented {
				all = append(all, strings.Join(path, "."))
			}
			documented = false
		}
	}
	return all
}

func word(text, name string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(text)
}

// value is named by its last word, since most files nest as values.yaml does.
func value(text, name string) bool { return word(text, name[strings.LastIndex(name, ".")+1:]) }

// placesOf are the numbered items of a list, each with the paths in front of its
// colon.
func placesOf(text, heading string) (places [][]string) {
	list := regexp.MustCompile(`(?ms)^### Add an? ` + heading + `\n(.*?)(^### |\z)`).FindStringSubmatch(text)
	if list == nil {
		return nil
	}
	for _, item := range all(list[1], `(?m)^\d+\. ([^:]+):`) {
		places = append(places, all(item, "`([^`]+)`"))
	}
	return places
}

// named tells whether a file of the patterns names something. Where the file's
// own name does, it need not be in the text.
func named(t *testing.T, patterns []string, name string, in func(text, name string) bool) bool {
	t.Helper()
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		files := glob(t, strings.ReplaceAll(pattern, "<name>", strings.ToLower(name)))
		return strings.Contains(pattern, "<name>") && len(files) > 0 ||
			slices.ContainsFunc(files, func(file string) bool { return in(read(t, file), name) })
	})
}

func matches(t *testing.T, pattern, file string) bool {
	t.Helper()
	matched, err := path.Match(pattern, file)
	if err != nil {
		t.Fatal(err)
	}
	return matched
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// namesAll are the files that name all of a kind, but for golden files and for
// the pages that tell of all kinds.
func namesAll(t *testing.T, kind kind) (files []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, name):
			return filepath.SkipDir
		case entry.IsDir() || name == contributing || name == "CHANGELOG.md" || !slices.Contains([]string{".go", ".md", ".yaml", ".json"}, filepath.Ext(name)):
			return nil
		}
		text := read(t, path)
		if !slices.ContainsFunc(kind.names, func(name string) bool { return !kind.in(text, name) }) {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(path), "../"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
