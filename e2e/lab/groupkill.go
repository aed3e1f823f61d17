package lab

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// KillWholeContainers makes containers on this machine die as with cgroup v2, where the
// kernel ends all processes of a container that reaches its limit and not one of them.
// It stands in for memory.oom.group, which cgroup v1 does not have: it watches the
// kernel's count of kills and ends the other processes within some 50 ms. It works until
// the context ends.
func KillWholeContainers(ctx context.Context) {
	counted := map[string]int{}
	for ctx.Err() == nil {
		_ = filepath.WalkDir("/sys/fs/cgroup/memory/kubepods", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // a container that is gone
			}
			now, err := kills(path)
			if before, known := counted[path]; err == nil && known && now > before {
				killAll(path)
			}
			counted[path] = now
			return nil
		})
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// kills returns how many processes of a cgroup the kernel has killed because memory ran out.
func kills(cgroup string) (n int, err error) {
	text, err := os.ReadFile(filepath.Join(cgroup, "memory.oom_control"))
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
			return strconv.Atoi(value)
		}
	}
	return 0, err
}

func killAll(cgroup string) {
	file, err := os.Open(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
