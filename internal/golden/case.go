package golden

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
)

// Case is a golden file about a pod or Service:
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
type Case struct {
	File
	Policy *policy.Policy
	Mode   policy.Mode
	Kind   string // Pod or Service
	JSON   []byte // the object
}

// Cases reads all cases of a folder. It fails if there is none.
func Cases(t testing.TB, folder string) []Case {
	t.Helper()
	var cases []Case
	for _, file := range Files(t, filepath.Join(folder, "*.txtar")) {
		cases = append(cases, read(t, file))
	}
	return cases
}

func read(t testing.TB, file File) Case {
	t.Helper()
	c := Case{File: file, Mode: policy.Enabled}
	var err error
	if c.Policy, err = policy.Parse(c.Part("policy.yaml")); err != nil {
		t.Fatalf("%s: policy.yaml: %v", c.Path, err)
	}
	if mode := strings.TrimSpace(string(c.Part("mode"))); mode != "" {
		c.Mode = policy.Mode(mode)
	}
	c.Kind, c.JSON = c.object(t)
	return c
}

func (c *Case) object(t testing.TB) (kind string, object []byte) {
	t.Helper()
	if name := strings.TrimSpace(string(c.Part("captured"))); name != "" {
		review := captured.Named(name)
		kind, object = review.Kind(), review.Object()
	} else {
		object = toJSON(t, c.Part("object.yaml"))
		var meta struct{ Kind string }
		if err := json.Unmarshal(object, &meta); err != nil || meta.Kind == "" {
			t.Fatalf("%s: object.yaml has no kind (%v)", c.Path, err)
		}
		kind = meta.Kind
	}
	if tweak := c.Part("tweak.yaml"); tweak != nil {
		var err error
		if object, err = strategicpatch.StrategicMergePatch(object, toJSON(t, tweak), map[string]any{"Pod": corev1.Pod{}, "Service": corev1.Service{}}[kind]); err != nil {
			t.Fatalf("%s: tweak.yaml: %v", c.Path, err)
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

// Check compares the result with the part "want": report, and the difference of the
// object before and after as YAML.
func (c *Case) Check(t *testing.T, report string, after []byte) {
	t.Helper()
	c.File.Check(t, "want", report+Diff(t, c.JSON, after))
}

// Want returns the part "want".
func (c *Case) Want() string { return string(c.Part("want")) }

// CheckDiff compares only the difference of the object.
func (c *Case) CheckDiff(t *testing.T, after []byte) {
	t.Helper()
	_, want, found := strings.Cut(c.Want(), "\n@@")
	if found {
		want = "@@" + want
	}
	if got := Diff(t, c.JSON, after); got != want {
		t.Errorf("%s\n%s", c.Path, diff.Diff("want", []byte(want), "got", []byte(got)))
	}
}

// Diff returns the difference of two objects given as JSON, in YAML, without its heading.
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
