package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/e2e/download"
)

// InstallPackages installs missing Debian packages. Each is given by its name, and by a
// program or the path of a file that shows whether it is installed. Only an
// installation needs root, and it never removes another package.
func InstallPackages(ctx context.Context, progress io.Writer, packages map[string]string) error {
	var missing []string
	for _, file := range slices.Sorted(maps.Keys(packages)) {
		_, found := exec.LookPath(file)
		if _, err := os.Stat(file); found != nil && (!filepath.IsAbs(file) || err != nil) {
			missing = append(missing, packages[file])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("these Debian packages are missing, and only root can install them: %s", strings.Join(missing, " "))
	}
	fmt.Fprintln(progress, "Installing Debian packages:", strings.Join(missing, " "))
	return download.Try(progress, "installing Debian packages", func() error {
		for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-remove", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}, missing...)} {
			cmd := exec.CommandContext(ctx, "apt-get", args...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out[max(0, len(out)-2000):])
			}
		}
		return nil
	})
}

// Unpack returns the folder of a Debian package's files. The package is downloaded into
// bin/ once and not installed, so that it needs no root and starts no daemon.
func Unpack(ctx context.Context, progress io.Writer, name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "debian", name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), name)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	fmt.Fprintln(progress, "Downloading the Debian package", name)
	if err := download.Try(progress, "downloading "+name, func() error {
		cmd := exec.CommandContext(ctx, "sh", "-c", `apt-get download -q "$0" && dpkg-deb -x ./*.deb files || { apt-get update -q; false; }`, name)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("downloading the Debian package %s: %w\n%s", name, err, out)
		}
		return err
	}); err != nil {
		return "", err
	}
	return dir, os.Rename(filepath.Join(work, "files"), dir)
}
