package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// What a node and its images need of Debian: a program, or a folder, that tells
// whether it is there, and the package that brings it.
var packages = map[string]string{
	"containerd":          "containerd",
	"runc":                "runc",
	"iptables":            "iptables",
	"/usr/lib/cni/bridge": "containernetworking-plugins",
	"debootstrap":         "debootstrap",
	"conntrack":           "conntrack",
	"ip":                  "iproute2",
	"java":                "openjdk-17-jre-headless",
	"javac":               "openjdk-17-jdk-headless",
	"python3":             "python3",
	"pip":                 "python3-pip",
}

func installPackages(ctx context.Context, progress io.Writer) error {
	var missing []string
	for program, name := range packages {
		_, err := exec.LookPath(program) // a path as it is
		if err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("a cluster needs root, and the Debian packages %s", strings.Join(missing, " "))
	}
	fmt.Fprintln(progress, "Installing Debian packages:", strings.Join(missing, " "))
	if err := run(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	return run(ctx, "apt-get", append([]string{"install", "-q", "-y", "--no-remove", "--no-install-recommends"}, missing...)...)
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}
