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

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// Signal sends a signal to the processes of a pod on this machine whose command
// line contains a text, and says how many there were. It needs the node to be
// this machine, and root.
func Signal(pod *corev1.Pod, commandLine string, signal syscall.Signal) (int, error) {
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
		return 0, fmt.Errorf("%s has no process with %q in its command line", pod.Name, commandLine)
	}
	return signalled, nil
}

// Unreachable drops what this machine, and so the kubelet, sends to a range of
// TCP ports of any pod; pods still reach each other. The function that it
// returns ends that.
func Unreachable(ctx context.Context, from, to int) (open func(), err error) {
	rule := []string{"OUTPUT", "-d", cluster.PodCIDR, "-p", "tcp", "--dport", fmt.Sprintf("%d:%d", from, to), "-j", "DROP"}
	if err := run(ctx, "iptables", append([]string{"-I"}, rule...)...); err != nil {
		return nil, err
	}
	return func() { _ = run(context.WithoutCancel(ctx), "iptables", append([]string{"-D"}, rule...)...) }, nil
}
