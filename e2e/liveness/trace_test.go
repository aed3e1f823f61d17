// Package liveness watches the system calls of the drivers' liveness check, as security
// tools do.
package liveness

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/loopback"
	"github.com/spark-vitals/spark-vitals/policy"
)

// Security tools report a process with a socket as standard input or output as a
// reverse shell. No process of the check has one, whatever listens on the UI's port.
func TestNoStandardDescriptorIsASocket(t *testing.T) {
	if err := cluster.InstallPackages(t.Context(), os.Stderr, map[string]string{"strace": "strace", "bash": "bash"}); err != nil {
		t.Fatal(err)
	}
	listeners := map[string]struct {
		serve func(net.Conn)
		seen  []string // in the trace, so that it is one
	}{
		"answers": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 100))
			_, _ = io.WriteString(c, "HTTP/1.1 400 No Host\r\n\r\n")
			c.Close()
		}, []string{"connect(3<TCP:", "write(3<TCP:", `"GET / HTTP/1.1\r\n\r\n`, "read(3<TCP:"}},
		"closes":             {func(c net.Conn) { _, _ = c.Read(make([]byte, 100)); c.Close() }, []string{"write(3<TCP:", "read(3<TCP:"}},
		"accepts in silence": {func(c net.Conn) { <-t.Context().Done(); c.Close() }, []string{"write(3<TCP:", "readlink(", "was silent for 10 s"}},
		"refuses":            {nil, []string{"connect(3<TCP:", "ECONNREFUSED"}},
	}
	started := map[string][]string{
		"as a kubelet starts it": nil,
		"without standard input": {"sh", "-c", `exec "$@" <&-`, "sh"},
	}
	for name, l := range listeners {
		port := loopback.Serve(t, l.serve)
		for how, start := range started {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				calls := trace(t, append(start, check(t, port)...))
				for _, seen := range l.seen {
					if !strings.Contains(calls, seen) {
						t.Errorf("the trace has no %q", seen)
					}
				}
				if found := standardSocket.FindAllString(calls, -1); len(found) > 0 {
					t.Errorf("a standard descriptor is a socket:\n%s", strings.Join(found, "\n"))
				}
			})
		}
	}
}

// standardSocket matches a line of strace in which the descriptor 0, 1 or 2 is a
// socket, as an argument or as the result of a call.
var standardSocket = regexp.MustCompile(`.*\b[012]<(TCP|UDP|UNIX|socket).*`)

// check returns the command of the probe, with a timeout of one second. If it fails, it
// is the second time, so it looks for a JVM. Of the machine's processes it sees this one.
func check(t *testing.T, port int) (command []string) {
	t.Helper()
	proc, tmp := t.TempDir(), t.TempDir()
	for _, name := range []string{"self", strconv.Itoa(os.Getpid())} {
		if err := os.Symlink("/proc/"+name, filepath.Join(proc, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tmp, ".spark-vitals-driver"), []byte("."), 0o600); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("-t 10", "-t 1", "/proc/", proc+"/", "/dev/shm/", tmp+"/")
	for _, arg := range policy.Default().Rules()[0].Probes.Liveness.Exec.Command {
		command = append(command, here.Replace(policy.PortReference.ReplaceAllString(arg, strconv.Itoa(port))))
	}
	return command
}

// trace returns all calls about descriptors and sockets that a command and its children
// make, with what each descriptor is.
func trace(t *testing.T, command []string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "calls")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", append([]string{"-f", "-yy", "-s", "100", "-e", "trace=%desc,%network,readlink", "-o", file, "--"}, command...)...)
	cmd.Env = append(os.Environ(), "HOSTNAME=driver")
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(calls)
}
