// Package chart tests the Helm chart: what it renders, that a real API server accepts
// it, and that its guards and certificates work.
package chart

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/policy"
)

// Each file of testdata/render has a sentence, values, and what the chart renders with
// them: the parts "objects", "hooks" and "notes" if the file has them, or "error". The
// part "api-versions" is what the cluster also serves.
func TestRender(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			rendered, err := g.render()
			got := map[string]string{"objects": rendered.Objects, "hooks": rendered.Hooks, "notes": rendered.Notes, "error": ""}
			if err != nil {
				got["error"] = err.Error() + "\n"
			}
			if err != nil && g.Part("error") == nil {
				t.Fatal(err)
			}
			for i, part := range g.Files {
				if part.Name != "values.yaml" && part.Name != "api-versions" {
					g.CheckAt(t, i, got[part.Name])
				}
			}
		})
	}
}

// "helm lint" has no complaint, with the values of any golden file.
func TestLint(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goldens(t) {
		if g.Part("error") != nil || g.Part("api-versions") != nil { // which "helm lint" does not take
			continue
		}
		for _, message := range lint.RunAll(filepath.Join(root, "charts", "spark-vitals"), g.values, "spark-vitals").Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %v", g.Name, message)
			}
		}
	}
}

// render is a golden file of testdata/render, with its values.
type render struct {
	golden.File
	values map[string]any
}

func (r render) render() (helm.Rendered, error) {
	return helm.Render(r.values, strings.Fields(string(r.Part("api-versions")))...)
}

func goldens(t *testing.T) (all []render) {
	t.Helper()
	for _, file := range golden.Files(t, "testdata/render/*.txtar") {
		g := render{File: file}
		if err := yaml.UnmarshalStrict(g.Part("values.yaml"), &g.values); err != nil {
			t.Fatalf("%s: %v", g.Path, err)
		}
		all = append(all, g)
	}
	return all
}

// values.yaml holds a verbatim copy of the default rule set, with its comments.
func TestPolicyIsTheDefault(t *testing.T) {
	c, err := helm.Chart()
	if err != nil {
		t.Fatal(err)
	}
	want, err := policy.RuleSetYAML("default")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), c.Values["policy"]); diff != "" {
		t.Errorf("values.yaml, policy (-policy/rulesets/default.yaml +values.yaml):\n%s", diff)
	}
}

// The guards name each key of the contract.
func TestGuardsNameEveryKey(t *testing.T) {
	rendered, err := helm.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	for kind, keys := range map[string][]string{
		"records": annotations.Record, "stamps": annotations.Stamps,
		"recorder": append(slices.Clone(annotations.Death), annotations.Previous), "stallwatch": {annotations.Stalled}, "releaser": {annotations.Released},
	} {
		list := "['" + strings.Join(keys, "', '") + "']"
		if !strings.Contains(rendered.Objects, list) {
			t.Errorf("no guard of the %s %s", kind, list)
		}
	}
	if one := "c.type == '" + annotations.DeathCondition + "'"; !strings.Contains(rendered.Objects, one) {
		t.Errorf("no guard of the condition %s", one)
	}
}

// The README is made from the comments of the values, so each value needs one.
func TestREADMENamesEveryValue(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "charts", "spark-vitals", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile(filepath.Join(root, "charts", "spark-vitals", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documented := bytes.Count(values, []byte("# -- "))
	_, table, _ := bytes.Cut(readme, []byte("## Values"))
	rows := bytes.Count(table, []byte("\n| ")) - 1 // without the head
	if rows != documented {
		t.Errorf("the README has %d values and values.yaml %d; run make golden", rows, documented)
	}
}
