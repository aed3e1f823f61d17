package chart

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
)

// prometheus returns the path of a program of Debian's package prometheus.
func prometheus(t *testing.T, program string) string {
	t.Helper()
	dir, err := cluster.Unpack(t.Context(), os.Stderr, "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "usr", "bin", program)
}

// monitoring is what the chart makes for Prometheus and Grafana: the file of rules, the
// expressions of alerts by name, and those of panels by title.
func monitoring(t *testing.T) (rules string, alerts, panels map[string]string) {
	t.Helper()
	rendered, err := helm.Render(map[string]any{
		"prometheus": map[string]any{"prometheusRule": map[string]any{"enabled": true}},
		"grafana":    map[string]any{"dashboard": map[string]any{"enabled": true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	alerts, panels = map[string]string{}, map[string]string{}
	for _, o := range objects(t, rendered.Objects) {
		if o.GetKind() == "PrometheusRule" {
			text, err := yaml.Marshal(o.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			rules = string(text)
			var spec struct {
				Groups []struct {
					Rules []struct{ Alert, Expr string }
				}
			}
			if err := yaml.Unmarshal(text, &spec); err != nil {
				t.Fatal(err)
			}
			for _, r := range spec.Groups[0].Rules {
				alerts[r.Alert] = r.Expr
			}
		}
		if strings.HasSuffix(o.GetName(), "-dashboard") {
			data, _ := o.Object["data"].(map[string]any)
			var dashboard struct {
				Panels []struct {
					Title   string
					Targets []struct{ Expr, RefID string }
				}
			}
			if err := json.Unmarshal([]byte(data["spark-vitals.json"].(string)), &dashboard); err != nil {
				t.Fatal(err)
			}
			for _, p := range dashboard.Panels {
				for _, target := range p.Targets {
					panels[p.Title+" "+target.RefID] = strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
				}
			}
		}
	}
	return rules, alerts, panels
}

// Each alert fires in one test of its file in testdata/alerts, does not fire in
// another, and says what to do.
func TestAlerts(t *testing.T) {
	promtool := prometheus(t, "promtool")
	rules, alerts, _ := monitoring(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "alerts.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint-fatal", filepath.Join(dir, "alerts.yaml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	operations := manifest(t, "docs/operations.md")
	for alert := range alerts {
		if !strings.Contains(operations, "\n| `"+alert+"` |") {
			t.Errorf("docs/operations.md has no row that says what to do when %s fires", alert)
		}
	}
	if rows := strings.Count(operations, "\n| `SparkVitals"); rows != len(alerts) {
		t.Errorf("docs/operations.md has rows of %d alerts, and there are %d", rows, len(alerts))
	}
	files, err := filepath.Glob("testdata/alerts/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(alerts) {
		t.Errorf("%d files of tests, and %d alerts", len(files), len(alerts))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(dir, filepath.Base(file)) // beside the rules
			if err := os.WriteFile(copied, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", copied).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if fires, quiet := tried(t, text, filepath.Base(file)); !fires || !quiet {
				t.Errorf("it fires in one: %v; is silent in another: %v", fires, quiet)
			}
		})
	}
}

// tried returns what the tests in a file expect of the alert that the file is named
// after.
func tried(t *testing.T, text []byte, file string) (fires, quiet bool) {
	t.Helper()
	var tests struct {
		Tests []struct {
			Rules []struct {
				Alert    string `json:"alertname"`
				Expected []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(text, &tests); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests.Tests {
		for _, r := range test.Rules {
			of := r.Alert+".yaml" == file
			fires, quiet = fires || of && len(r.Expected) > 0, quiet || of && len(r.Expected) == 0
		}
	}
	return fires, quiet
}
