// Package lab is where real Spark runs for the stories: a cluster with a node
// and Spark's images on it.
package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// Versions of Spark that the stories run: the oldest that is still maintained,
// one between, and the newest.
var Versions = []string{"3.5.9", "4.1.4", "4.3.0"}

// Lab is a cluster, and the folder of what was downloaded and built for it.
type Lab struct {
	Cluster *cluster.Cluster
	Config  *rest.Config // of the cluster, with all rights
	Store   image.Store
}

// Dir is where all of it is kept between runs.
func Dir() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "spark-vitals"), err
}

// Up starts the cluster, or finds it running, with the images on it.
func Up(ctx context.Context, progress io.Writer) (*Lab, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	root, err := cluster.Root()
	if err != nil {
		return nil, err
	}
	l := &Lab{Store: image.Store{Dir: filepath.Join(dir, "images"), Apps: filepath.Join(root, "e2e", "apps"), Progress: progress}}
	if err := os.MkdirAll(l.Store.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := installPackages(ctx, progress); err != nil {
		return nil, err
	}
	fmt.Fprintln(progress, "Starting a cluster; from nothing Kubernetes is built first, which takes some minutes.")
	if l.Cluster, err = cluster.Up(ctx, filepath.Join(dir, "cluster"), progress); err != nil {
		return nil, err
	}
	l.Config = l.Cluster.Config
	fmt.Fprintln(progress, "Putting images on the node.")
	return l, l.importImages(ctx, progress)
}

// Running tells whether the cluster is up.
func Running(ctx context.Context) bool {
	dir, err := Dir()
	if err != nil {
		return false
	}
	_, err = cluster.Find(ctx, filepath.Join(dir, "cluster"))
	return err == nil
}

// Artifacts is the folder where failures leave what they saw, made anew.
func Artifacts() (string, error) {
	root, err := cluster.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "e2e-failures")
	return dir, os.RemoveAll(dir)
}

// Machine says what the figures were taken on. Memory that a cgroup of version 1
// limits is freed by killing one process, of version 2 all of a container.
func Machine() string {
	version := "v1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		version = "v2"
	}
	return fmt.Sprintf("%d cores, cgroup %s", runtime.NumCPU(), version)
}

// Down ends the cluster. What was downloaded is kept.
func Down(ctx context.Context) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	return cluster.Down(ctx, filepath.Join(dir, "cluster"))
}

// What a node needs of Debian: the program that tells whether it is there, and
// the package that brings it.
var packages = map[string]string{
	"/usr/bin/containerd":   "containerd",
	"/usr/sbin/runc":        "runc",
	"/usr/sbin/iptables":    "iptables",
	"/usr/lib/cni/bridge":   "containernetworking-plugins",
	"/usr/sbin/debootstrap": "debootstrap",
	"/usr/sbin/conntrack":   "conntrack",
	"/bin/ip":               "iproute2",
}

func installPackages(ctx context.Context, progress io.Writer) error {
	var missing []string
	for program, name := range packages {
		if _, err := os.Stat(program); err != nil {
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
	return run(ctx, "apt-get", append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...)...)
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

func (l *Lab) importImages(ctx context.Context, progress io.Writer) error {
	pause, err := cluster.Build(ctx, "e2e/pause", "pause", progress)
	if err != nil {
		return err
	}
	images := []func() (image.Image, error){func() (image.Image, error) { return l.Store.Static(cluster.PauseImage, pause) }}
	for _, version := range Versions {
		images = append(images, func() (image.Image, error) { return l.Store.Spark(ctx, version, image.Plain) })
	}
	for _, build := range images {
		built, err := build()
		if err != nil {
			return err
		}
		if err := l.Import(ctx, built); err != nil {
			return err
		}
	}
	return nil
}

// Import puts an image on the node, unless it is there and has not changed.
func (l *Lab) Import(ctx context.Context, i image.Image) error {
	id, err := i.ID()
	if err != nil {
		return err
	}
	mark := filepath.Join(l.Cluster.ImageRoot(), strings.NewReplacer("/", "_", ":", "_").Replace(i.Name)+".imported")
	if there, err := os.ReadFile(mark); err == nil && string(there) == id {
		return nil
	}
	fmt.Fprintf(l.Store.Progress, "  image %s\n", i.Name)
	archive := filepath.Join(l.Store.Dir, "image.tar")
	defer os.Remove(archive)
	if err := i.Write(archive); err != nil {
		return err
	}
	if err := l.Cluster.Import(ctx, archive); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(id), 0o600)
}
