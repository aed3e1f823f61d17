package pages

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// elsewhere are the commands that this test does not run.
var elsewhere = []string{
	"make ",                          // takes hours; docs/commands_test.go looks for the target
	"helm test ",                     // needs a kubelet; TestInstall in e2e/stories runs it
	"kubectl -n spark-vitals logs ",  // needs a kubelet
	"spark-vitals webhook ",          // does not end; e2e/apiserver runs it
	"spark-vitals recorder",          // does not end; e2e/recording runs it
	"spark-vitals report -A --watch", // does not end; cmd/spark-vitals/testdata/report.txtar runs it
}

// objects of Kubernetes in the text.
var objects = regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```")

// Each command that a page tells its readers to type works as it stands, with the
// chart installed.
func TestCommandsOfPages(t *testing.T) {
	for _, page := range must(pages.All())(t) {
		t.Run(strings.ReplaceAll(page.Path, "/", "-"), func(t *testing.T) {
			lines := slices.DeleteFunc(page.Lines, func(line string) bool {
				return slices.ContainsFunc(elsewhere, func(begin string) bool { return strings.HasPrefix(line+" ", begin) })
			})
			if len(lines) == 0 {
				t.Skip("nothing to run here")
			}
			s := readersShell(t)
			const install = "helm install spark-vitals charts/spark-vitals --namespace spark-vitals --create-namespace"
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, install) }) {
				lines = append([]string{install}, lines...)
			}
			for _, line := range lines {
				s.works(t, line)
			}
			for i, object := range objects.FindAllStringSubmatch(page.Text, -1) {
				s.write(t, fmt.Sprintf("%d.yaml", i), object[1])
				s.works(t, fmt.Sprintf("kubectl apply --dry-run=server --validate=strict -f %d.yaml", i))
			}
			s.works(t, "helm uninstall spark-vitals --namespace spark-vitals --ignore-not-found")
		})
	}
}

// readersShell returns a shell with the objects and files that the pages assume.
func readersShell(t *testing.T) shell {
	t.Helper()
	namespace := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestCommandsOfPages/"), ".", "-"))
	if err := controlPlane.Namespace(t.Context(), namespace, nil); err != nil {
		t.Fatal(err)
	}
	must(kubelet.Driver(t.Context(), namespace, "etl"))(t)
	died := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"status":"True"}]}}`, annotations.DeathCondition) // for who waits for it
	must(kubelet.CoreV1().Pods(namespace).Patch(t.Context(), "etl", types.StrategicMergePatchType, died, metav1.PatchOptions{}, "status"))(t)
	s := newShell(t, namespace)
	s.write(t, "my-policy.yaml", "ruleSet: gentle\n")
	s.forKyuubi(t)
	s.write(t, "driver-template.yaml", "kind: Pod\nspec: {containers: [{name: driver}]}\n")
	return s
}

// works runs a command. It may exit with 0, or with 2 if spark-vitals found something.
func (s shell) works(t *testing.T, line string) {
	t.Helper()
	line = strings.NewReplacer("NAMESPACE", s.namespace, "DRIVER", "etl", "REGISTRY", "registry.example").Replace(line)
	if strings.HasPrefix(line, "helm ") {
		line += " --no-hooks" // there are no nodes to run them on
	}
	out, err := s.run(t, line)
	var exit *exec.ExitError
	if found := errors.As(err, &exit) && exit.ExitCode() == 2 && strings.Contains(line, "spark-vitals"); err != nil && !found {
		t.Errorf("%s\n%v\n%s", line, err, out)
	}
	t.Logf("$ %s\n%s", line, out)
}
