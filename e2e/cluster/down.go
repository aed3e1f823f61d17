package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Down ends the cluster in a folder, if there is one, and removes what it put on this
// machine. It keeps images and logs.
func Down(ctx context.Context, dir string) error {
	if !exists(dir) {
		return nil
	}
	for _, name := range slices.Backward(components) {
		if name == "containerd" {
			endContainers(ctx, dir)
		}
		stopDetached(dir, name, 2*time.Second)
	}
	if root, err := Root(); err == nil && exists(filepath.Join(dir, "kube-proxy.yaml")) {
		_ = exec.CommandContext(ctx, filepath.Join(root, "bin", "node"), "kube-proxy", "--cleanup").Run()
	}
	Reachable(ctx)
	endQueueing(ctx)
	_ = exec.CommandContext(ctx, "ip", "link", "delete", bridge).Run()
	// A process that was asked to end may still let go of a mount, or write a file.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		err := unmount(dir)
		if err == nil { // nothing below a mount is removed
			err = removeState(dir)
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// endContainers ends the containers that the kubelet left running.
func endContainers(ctx context.Context, dir string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tasks, err := ctr(ctx, dir, "tasks", "ls", "-q")
	if err != nil {
		return // containerd does not run
	}
	for _, task := range strings.Fields(tasks) {
		_, _ = ctr(ctx, dir, "tasks", "kill", "-s", "SIGKILL", task)
		_, _ = ctr(ctx, dir, "tasks", "delete", "--force", task)
	}
	containers, err := ctr(ctx, dir, "containers", "ls", "-q")
	if err == nil && strings.TrimSpace(containers) != "" {
		_, _ = ctr(ctx, dir, append([]string{"containers", "delete"}, strings.Fields(containers)...)...)
	}
}

// unmount unmounts everything below a folder, the inner mounts first.
func unmount(dir string) error {
	mounts, err := os.Open("/proc/mounts")
	if err != nil {
		return err
	}
	defer mounts.Close()
	var below []string
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			below = append(below, fields[1])
		}
	}
	var errs []error
	for _, mount := range slices.Backward(below) {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", mount, err))
		}
	}
	return errors.Join(errs...)
}

func removeState(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".log" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
