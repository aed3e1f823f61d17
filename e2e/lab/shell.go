package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// Shell runs a command line as a user would: in the project's folder, with helm and
// kubectl.
func (l *Lab) Shell(ctx context.Context, line string) (out string, err error) {
	root, err := cluster.Root()
	if err != nil {
		return "", err
	}
	tools, err := l.tools(ctx, filepath.Join(root, "bin", "tools"))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig, "PATH="+tools+":"+os.Getenv("PATH"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", line, err, text)
	}
	return string(text), err
}

// tools puts Helm's own command, in the version that package helm links, and the lab's
// kubectl into a folder.
func (l *Lab) tools(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	kubectl := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", strings.Join(l.kubectl, " "))
	if l.own != nil {
		if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(kubectl), 0o755); err != nil {
			return "", err
		}
	}
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "helm.sh/helm/v4").Output()
	if err != nil {
		return "", fmt.Errorf("finding Helm's version: %w", err)
	}
	install := exec.CommandContext(ctx, "go", "install", "helm.sh/helm/v4/cmd/helm@"+strings.TrimSpace(string(version)))
	install.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building helm: %w\n%s", err, out)
	}
	return dir, nil
}
