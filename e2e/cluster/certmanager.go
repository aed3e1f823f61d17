package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// CertManagerCRDs returns the folder of cert-manager's CRDs, in the version of its
// controllers in e2e/addons/certmanager.
func CertManagerCRDs(ctx context.Context) (dir string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	const module = "github.com/cert-manager/cert-manager"
	cmd := exec.CommandContext(ctx, "sh", "-c", "go mod download "+module+" && go list -m -f {{.Dir}} "+module)
	cmd.Dir, cmd.Stderr = filepath.Join(root, "e2e", "addons"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", module, err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy", "crds"), nil
}
