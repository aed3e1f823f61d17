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
)

// InstallPackages installs Debian packages that are missing. They are given by a
// program, or the path of a file, that tells whether one is there, and its name.
// It needs root only when one is missing, and never removes another.
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
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-remove", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out[max(0, len(out)-2000):])
		}
	}
	return nil
}

// Unpack returns the folder of a Debian package's files. It is downloaded into
// bin/ once and not installed: that needs no root, and starts no daemon.
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
	download, err := os.MkdirTemp(filepath.Dir(dir), name)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(download)
	fmt.Fprintln(progress, "Downloading the Debian package", name)
	cmd := exec.CommandContext(ctx, "sh", "-c", `{ apt-get download -q "$0" || { sleep 5; apt-get update -q; apt-get download -q "$0"; }; } && dpkg-deb -x ./*.deb files`, name)
	cmd.Dir = download
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("downloading the Debian package %s, for which apt-get update may be needed: %w\n%s", name, err, out)
	}
	return dir, os.Rename(filepath.Join(download, "files"), dir)
}
