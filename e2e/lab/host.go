package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// Signal sends a signal to the processes of a pod on this machine that run a program
// ("java") and whose command line contains a text. It returns how many there were. It
// needs root, and the node must be this machine.
func Signal(pod *corev1.Pod, program, commandLine string, signal syscall.Signal) (int, error) {
	cgroups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	signalled := 0
	for _, file := range cgroups {
		cgroup, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(cgroup, []byte("pod"+string(pod.UID))) {
			continue
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(command), "\x00", " "), commandLine) {
			continue
		}
		if exe, err := os.Readlink(filepath.Join(filepath.Dir(file), "exe")); err != nil || filepath.Base(exe) != program {
			continue // an init process has the same command line
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return signalled, err
		}
		if err := syscall.Kill(pid, signal); err != nil {
			return signalled, fmt.Errorf("signalling a process of %s: %w", pod.Name, err)
		}
		signalled++
	}
	if signalled == 0 {
		return 0, fmt.Errorf("%s has no %s with %q in its command line", pod.Name, program, commandLine)
	}
	return signalled, nil
}

// EnforceNetworkPolicies enforces the cluster's NetworkPolicies until stop.
func (l *Lab) EnforceNetworkPolicies(ctx context.Context) (stop func(), err error) {
	return l.own.EnforceNetworkPolicies(ctx, l.Store.Progress)
}
