// Package lab runs real Spark for the stories: a cluster with a node, and Spark's
// images on it.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// Versions are the versions of Spark that the stories run: the oldest that is still
// maintained, one between, and the newest.
var Versions = []string{"3.5.9", "4.1.4", "4.3.0"}

// Lab is a cluster, and the folder of its downloads and images.
type Lab struct {
	Config     *rest.Config // of the cluster, with all rights
	Client     kubernetes.Interface
	Kubeconfig string // a file with the same
	Store      image.Store
	Values     map[string]any // of the chart, beside the lab's own

	own     *cluster.Cluster // nil if the stories did not start the cluster
	kubectl []string
	images  sync.Mutex // one image is built and imported at a time
}

// Dir is the folder where everything is kept between runs.
func Dir() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "spark-vitals"), err
}

// Up starts the cluster, or finds it running.
func Up(ctx context.Context, progress io.Writer) (*Lab, error) {
	l, dir, err := newLab(progress)
	if err != nil {
		return nil, err
	}
	if err := cluster.InstallPackages(ctx, progress, packages); err != nil {
		return nil, err
	}
	fmt.Fprintln(progress, "Starting a cluster; from nothing Kubernetes is built first, which takes some minutes.")
	if l.own, err = cluster.Up(ctx, filepath.Join(dir, "cluster"), progress); err != nil {
		return nil, err
	}
	l.Config, l.Client, l.Kubeconfig = l.own.Config, l.own.Client, l.own.Kubeconfig
	node, err := cluster.Build(ctx, "e2e/kubernetes/node", "node", progress)
	if err != nil {
		return nil, err
	}
	l.kubectl = []string{node, "kubectl"}
	pause, err := cluster.Build(ctx, "e2e/pause", "pause", progress)
	if err != nil {
		return nil, err
	}
	built, err := l.Store.Static(cluster.PauseImage, pause)
	if err != nil {
		return nil, err
	}
	return l, l.Import(ctx, built)
}

// Attach uses the cluster of KUBECONFIG, whose nodes already have the images
// (Archives). Stories cannot signal processes there.
func Attach(progress io.Writer) (*Lab, error) {
	l, _, err := newLab(progress)
	if err != nil {
		return nil, err
	}
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	if l.Config, err = config.ClientConfig(); err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	l.Config.QPS, l.Config.WarningHandler = -1, rest.NoWarnings{}
	if l.Client, err = kubernetes.NewForConfig(l.Config); err != nil {
		return nil, err
	}
	l.Kubeconfig, l.kubectl = os.Getenv("KUBECONFIG"), []string{"kubectl"}
	fmt.Fprintln(progress, "Running stories on", l.Config.Host)
	return l, nil
}

func newLab(progress io.Writer) (l *Lab, dir string, err error) {
	if dir, err = Dir(); err != nil {
		return nil, "", err
	}
	root, err := cluster.Root()
	if err != nil {
		return nil, "", err
	}
	l = &Lab{Store: image.Store{Dir: filepath.Join(dir, "images"), Apps: filepath.Join(root, "e2e", "apps"), Progress: progress}}
	return l, dir, os.MkdirAll(l.Store.Dir, 0o755)
}

// HostAccess reports whether the cluster's node is this machine, so that signals reach
// the processes of its pods.
func (l *Lab) HostAccess() bool { return l.own != nil }

// HostIP is an address of this machine that pods can reach.
func (l *Lab) HostIP() string { return l.own.IP() }

// Running reports whether the cluster is up.
func Running(ctx context.Context) bool {
	dir, err := Dir()
	if err != nil {
		return false
	}
	_, err = cluster.Find(ctx, filepath.Join(dir, "cluster"))
	return err == nil
}

// Lock locks the cluster until it is left: exclusively for a run of stories that may
// end it, or shared with others that keep it.
func Lock(alone bool) (leave func() error, err error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "stories.lock"))
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("other stories run on this machine's cluster"), file.Close())
	}
	return file.Close, nil
}

// Artifacts empties and returns the folder where failures leave what they saw.
func Artifacts() (string, error) {
	root, err := cluster.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "e2e-failures")
	return dir, os.RemoveAll(dir)
}

// Machine describes the machine of the figures. Under a memory limit, cgroup v1 kills
// one process, and cgroup v2 the whole container.
func (l *Lab) Machine() string {
	if !l.HostAccess() {
		return "the cluster " + l.Config.Host
	}
	version := "v1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		version = "v2"
	}
	return fmt.Sprintf("%d cores, cgroup %s", runtime.NumCPU(), version)
}

// Down ends the cluster and keeps the downloads.
func Down(ctx context.Context) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	return cluster.Down(ctx, filepath.Join(dir, "cluster"))
}
