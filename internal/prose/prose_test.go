package prose

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// Each rule finds its mistake, and finds nothing in a correct version of the sentence.
func TestRules(t *testing.T) {
	examples := map[string]struct{ bad, good string }{
		"Future":     {"The kubelet will end it.", "The kubelet ends it."},
		"Inversion":  {"It died. Was it only slow, set the annotation.", "It died. If it was only slow, set the annotation."},
		"Jargon":     {"There is no room for the review.", "The webhook has no free slot for the review."},
		"Passive":    {"The pod is deleted.", "Spark deletes the pod."},
		"Person":     {"The client loses his connection.", "The client loses its connection."},
		"Told":       {"What it died of cannot be told.", "The status does not show why it died."},
		"Vocabulary": {"The stallwatch reports it.", "The stall watch reports it."},
		"We":         {"Those are left to us.", "Those are left to spark-vitals."},
		"Words":      {"3 of 20 executors died so.", "3 of 20 executors died this way."},
		"Sentences": {
			"One two three four five six seven eight nine ten, one two three four five six seven eight nine ten, one two three four five six seven eight nine ten and one.",
			"One two three four five six seven eight nine ten, one two three four five six seven eight nine ten. One two three four five six seven eight nine ten and one.",
		},
	}
	rules, err := Style(filepath.Join(pages.Root(), "docs/style/SparkVitals"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		example, found := examples[rule.Name]
		if !found {
			t.Errorf("%s has no example", rule.Name)
		}
		if len(rule.check(example.bad)) == 0 {
			t.Errorf("%s passes %q", rule.Name, example.bad)
		}
		if says := rule.check(example.good); len(says) > 0 {
			t.Errorf("%s refuses %q: %s", rule.Name, example.good, says)
		}
	}
}

// Prose is read from each kind of file with its line. Code is not read.
func TestTexts(t *testing.T) {
	for name, test := range map[string]struct {
		read  func(string) ([]Text, error)
		holds string
		want  []Text
	}{
		"page.md": {
			Markdown, "# Head\n\nA `b` and\n[c](d).\n\n    make told\n\n| e |\n|---|\n| f `g` |\n",
			[]Text{{"", 3, "A `code` and c."}, {"", 8, "e"}, {"", 10, "f `code`"}},
		},
		"values.yaml": {
			YAML, "# -- One `x`\n# goes on.\na: b\nmessage: it was refused\nexpression: a.b\n",
			[]Text{{"", 1, "One `code` goes on."}, {"", 4, "it was refused"}},
		},
		"NOTES.txt": {
			Notes, "Look here\nfirst:\n  kubectl get\n{{- if .x }}\n\nA {{ .y }} b\n",
			[]Text{{"", 1, "Look here first:"}, {"", 6, "A `code` b"}},
		},
		"advice.txt": {
			Messages, "driver, JVM; driver, R:\n  It died. Set a.b=1.\n",
			[]Text{{"", 2, "It died. Set `code`."}},
		},
		"a.go": {
			Go, "package a\n\nvar x = \"one two three \" + y +\n\t\" four\"\nvar z = `a`\n",
			[]Text{{"", 3, "one two three `code` four"}},
		},
	} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(test.holds), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := test.read(file)
		for i := range got {
			got[i].File = ""
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, test.want)
		}
	}
}
