// Package golden reads tests that stand in one file each, in txtar format: why,
// the input, and what is to become of it.
//
//	Why this is so, in a sentence or two.
//	-- captured --
//	spark-3.5.9/driver          a review of package captured, or
//	-- object.yaml --
//	kind: Pod ...               an object, to the letter
//	-- tweak.yaml --
//	spec: ...                   a strategic merge patch on the object, optional
//	-- policy.yaml --
//	ruleSet: default            optional
//	-- mode --
//	audit                       optional: enabled, audit or disabled
//	-- want --
//	...                         see Case.Check
//
// go test -update writes the wanted part anew.
package golden

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"golang.org/x/tools/txtar"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
)

var update = flag.Bool("update", false, "write the wanted part of golden files anew")

// Case is one golden file.
type Case struct {
	Name   string
	Policy *policy.Policy
	Mode   policy.Mode
	Kind   string // Pod or Service
	JSON   []byte // the object
	path   string
	file   *txtar.Archive
}

// Cases reads all goldens of a folder; none is an error.
func Cases(t testing.TB, folder string) []Case {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens in %s (%v)", folder, err)
	}
	var cases []Case
	for _, path := range paths {
		cases = append(cases, read(t, path))
	}
	return cases
}

func read(t testing.TB, path string) Case {
	t.Helper()
	file, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := Case{Name: strings.TrimSuffix(filepath.Base(path), ".txtar"), Mode: policy.Enabled, path: path, file: file}
	if len(file.Comment) == 0 {
		t.Fatalf("%s does not say why", path)
	}
	c.Policy, err = policy.Parse(c.part("policy.yaml"))
	if err != nil {
		t.Fatalf("%s: policy.yaml: %v", path, err)
	}
	if mode := strings.TrimSpace(string(c.part("mode"))); mode != "" {
		c.Mode = policy.Mode(mode)
	}
	c.Kind, c.JSON = c.object(t)
	return c
}

func (c *Case) part(name string) []byte {
	for _, f := range c.file.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (c *Case) object(t testing.TB) (kind string, object []byte) {
	t.Helper()
	if name := strings.TrimSpace(string(c.part("captured"))); name != "" {
		review := captured.Named(name)
		kind, object = review.Kind(), review.Object()
	} else {
		object = toJSON(t, c.part("object.yaml"))
		var meta struct{ Kind string }
		if err := json.Unmarshal(object, &meta); err != nil || meta.Kind == "" {
			t.Fatalf("%s: object.yaml has no kind (%v)", c.path, err)
		}
		kind = meta.Kind
	}
	if tweak := c.part("tweak.yaml"); tweak != nil {
		var err error
		if object, err = strategicpatch.StrategicMergePatch(object, toJSON(t, tweak), map[string]any{"Pod": corev1.Pod{}, "Service": corev1.Service{}}[kind]); err != nil {
			t.Fatalf("%s: tweak.yaml: %v", c.path, err)
		}
	}
	return kind, object
}

func toJSON(t testing.TB, text []byte) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Check compares what became of the object with what is wanted: lines that tell
// of it, and the difference of the object before and after as YAML.
func (c *Case) Check(t *testing.T, told string, after []byte) {
	t.Helper()
	got := told + Diff(t, c.JSON, after)
	if *update {
		c.write(t, got)
		return
	}
	if want := string(c.part("want")); got != want {
		t.Errorf("%s (go test -update writes it anew)\n%s", c.path, diff.Diff("want", []byte(want), "got", []byte(got)))
	}
}

// Want is what is wanted, whole.
func (c *Case) Want() string { return string(c.part("want")) }

// CheckDiff compares the difference alone.
func (c *Case) CheckDiff(t *testing.T, after []byte) {
	t.Helper()
	_, want, found := strings.Cut(c.Want(), "\n@@")
	if found {
		want = "@@" + want
	}
	if got := Diff(t, c.JSON, after); got != want {
		t.Errorf("%s\n%s", c.path, diff.Diff("want", []byte(want), "got", []byte(got)))
	}
}

func (c *Case) write(t *testing.T, want string) {
	t.Helper()
	c.file.Files = slices.DeleteFunc(c.file.Files, func(f txtar.File) bool { return f.Name == "want" })
	c.file.Files = append(c.file.Files, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(c.path, txtar.Format(c.file), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Diff of two objects given as JSON, in YAML, without its heading.
func Diff(t *testing.T, before, after []byte) string {
	t.Helper()
	a, err := yaml.JSONToYAML(before)
	if err != nil {
		t.Fatal(err)
	}
	b, err := yaml.JSONToYAML(after)
	if err != nil {
		t.Fatal(err)
	}
	_, hunks, _ := strings.Cut(string(diff.Diff("", a, "", b)), "+++ \n")
	return hunks
}
