package stories

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// The commands of the README, from installing to removing, are run unchanged, each
// followed by a look at what happens to an executor.
func TestREADME(t *testing.T) {
	s := story{
		name: "install-readme", why: "each command of the README does what it says, and nothing is left in the end",
		versions: []string{oldest}, host: true,
	}
	s.run(t, func(t *testing.T, version string) {
		begun := time.Now()
		if err := theLab.Uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = theLab.Kubectl(context.Background(), nil, "delete", "namespace", "spark-vitals", "--ignore-not-found")
			if err := theLab.Install(context.Background()); err != nil {
				t.Error(err)
			}
		})
		untilLeft(t)
		const namespace = "spark" // as in the README
		if err := theLab.NewNamespace(t.Context(), namespace, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, namespace) })
		chart, err := helm.Chart()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theLab.ImportOwn(t.Context(), chart.Metadata.AppVersion); err != nil { // stands for "make image" and pushing it
			t.Fatal(err)
		}
		for _, step := range []struct{ line, becomes string }{
			{"helm install ", untouched},
			{"helm test ", untouched},
			{"spark-vitals.io/inject=audit", audited},
			{"spark-vitals.io/inject=enabled", injected},
			{"spark-vitals.io/inject-", untouched},
			{"spark-vitals.io/inject=enabled", injected},
			{"kubectl delete ", untouched},
			{"helm upgrade ", injected},
			{"helm uninstall ", untouched},
		} {
			line := strings.NewReplacer("REGISTRY", lab.Registry, "NAMESPACE", namespace).Replace(lineOfREADME(t, step.line))
			out, err := theLab.Shell(t.Context(), line)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("$ %s\n%s", line, out)
			untilTreated(t, namespace, step.becomes)
		}
		untilLeft(t, "namespaces/spark", "namespaces/spark-vitals") // the one by its label, the other was made by Helm, which deletes none
		theTable.note(t, s.name, version, "every command works; in the end a label and a namespace remain", time.Since(begun))
	})
}

// lineOfREADME returns the first command of the README that contains a text.
func lineOfREADME(t *testing.T, text string) string {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(readme)) {
		if strings.HasPrefix(line, "    ") && strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("the README has no command line with %q", text)
	return ""
}

// untilLeft waits until the only objects in the cluster that name spark-vitals are the
// given ones. Events are ignored: they expire after an hour.
func untilLeft(t *testing.T, want ...string) {
	t.Helper()
	eventually.Succeeds(t, "nothing else is left", func(context.Context) error {
		left, err := cluster.Objects(t.Context(), theLab.Config, func(o metav1.ObjectMeta) bool {
			o.Namespace = ""
			return strings.Contains(fmt.Sprint(o), "spark-vitals")
		})
		left = slices.DeleteFunc(left, func(o string) bool { return strings.HasPrefix(o, "events/") })
		if err == nil && !slices.Equal(left, want) {
			err = fmt.Errorf("left are %v", left)
		}
		return err
	})
}
