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
