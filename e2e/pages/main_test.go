// Package pages runs the commands of the project's pages on a real API server, in a
// shell, and records the session that the front page shows.
package pages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	helm "helm.sh/helm/v4/pkg/cmd"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	kubectl "k8s.io/kubectl/pkg/cmd"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/internal/pages"
)

var (
	controlPlane *cluster.ControlPlane
	kubelet      cluster.Kubelet
)

// TestMain also runs kubectl and helm, if the binary is called by their names.
func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "kubectl":
		err = kubectl.NewDefaultKubectlCommand().Execute()
	case "helm":
		command, problem := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
		if err = problem; err == nil {
			err = command.Execute()
		}
	default:
		err = withCluster(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // the main of a test
	}
}

func withCluster(m *testing.M) error {
	dir, err := os.MkdirTemp("", "spark-vitals-pages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if controlPlane, err = cluster.StartControlPlane(context.Background(), dir, os.Stderr); err != nil {
		return err
	}
	defer controlPlane.Stop()
	kubelet.Interface, err = kubernetes.NewForConfig(controlPlane.Config)
	if err == nil {
		m.Run()
	}
	return err
}

// shell is a user's shell: a clone of the project, with the programs on the PATH.
type shell struct{ dir, kubeconfig, namespace string }

// newShell returns a shell whose default namespace is the given one.
func newShell(t *testing.T, namespace string) shell {
	t.Helper()
	s := shell{dir: t.TempDir(), namespace: namespace}
	ours := must(cluster.Build(t.Context(), "cmd/spark-vitals", "spark-vitals", os.Stderr))(t)
	self := must(os.Executable())(t)
	for link, to := range map[string]string{
		"path/kubectl": self, "path/helm": self, "path/spark-vitals": ours, "path/kubectl-spark_vitals": ours,
		"bin": filepath.Dir(ours), "charts": filepath.Join(pages.Root(), "charts"), "deploy": filepath.Join(pages.Root(), "deploy"),
	} {
		link = filepath.Join(s.dir, link)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	config := must(clientcmd.LoadFromFile(controlPlane.Kubeconfig))(t)
	config.Contexts[config.CurrentContext].Namespace = namespace
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a line and returns its output.
func (s shell) run(t *testing.T, line string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", line)
	c.Dir = s.dir
	c.Env = append(os.Environ(), "PATH="+filepath.Join(s.dir, "path")+":"+os.Getenv("PATH"), "KUBECONFIG="+s.kubeconfig, "HOME="+s.dir)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (s shell) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const patience = 10 * time.Minute // only guards against waiting for ever

// recorded waits until the recorder's message on a driver has these words.
func recorded(t *testing.T, driver *corev1.Pod, words string) {
	t.Helper()
	eventually.True(t, fmt.Sprintf("%q on %s", words, driver.Name), func() bool {
		p, err := kubelet.CoreV1().Pods(driver.Namespace).Get(t.Context(), driver.Name, metav1.GetOptions{})
		return err == nil && strings.Contains(p.Annotations[annotations.Message], words)
	})
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
