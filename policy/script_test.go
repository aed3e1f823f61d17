package policy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/internal/loopback"
	"github.com/spark-vitals/spark-vitals/policy"
)

// The check of the default rule set, run as the kubelet runs it, against what a
// driver's UI can be: only one that accepts and stays silent is sick.
func TestDriverLivenessCheck(t *testing.T) {
	ended := t.Context().Done()
	listeners := map[string]struct {
		serve func(net.Conn)
		sick  bool
	}{
		"answers":            {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 No Host\r\n\r\n"); c.Close() }, false},
		"answers one byte":   {func(c net.Conn) { _, _ = io.WriteString(c, "\n") }, false},
		"closes":             {func(c net.Conn) { c.Close() }, false},
		"resets":             {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() }, false},
		"refuses":            {nil, false},
		"accepts in silence": {func(c net.Conn) { <-ended; c.Close() }, true},
	}
	environments := map[string][]string{
		"plain":             nil,
		"BASH_ENV ends it":  {"BASH_ENV=" + fileThatExits(t)},
		"POSIXLY_CORRECT":   {"POSIXLY_CORRECT=1"},
		"SHELLOPTS=errexit": {"SHELLOPTS=errexit"},
		"SHELLOPTS=xtrace":  {"SHELLOPTS=xtrace", "PS4=$(exit 1)"},
		"BASH_XTRACEFD":     {"BASH_XTRACEFD=3"},
		"SPARK_LOCAL_IP":    {"SPARK_LOCAL_IP=127.0.0.1"},
	}
	for name, l := range listeners {
		port := loopback.Serve(t, l.serve)
		for environment, variables := range environments {
			t.Run(name+", "+environment, func(t *testing.T) {
				t.Parallel()
				if err := check(t, port, l.sick, variables); (err != nil) != l.sick {
					t.Errorf("sick is %v: %v", err != nil, err)
				}
			})
		}
	}
}

// An image without bash is healthy as far as the check can tell.
func TestDriverLivenessCheckWithoutBash(t *testing.T) {
	if err := check(t, loopback.Serve(t, func(c net.Conn) { <-t.Context().Done(); c.Close() }), true, []string{"PATH=" + t.TempDir()}); err != nil {
		t.Error(err)
	}
}

// check runs the probe's command. Who is to be found silent has a second instead of
// ten, the others a minute: the machine may pause.
func check(t *testing.T, port int, silent bool, environment []string) error {
	t.Helper()
	patience := "-t 60"
	if silent {
		patience = "-t 1"
	}
	command := []string{}
	for _, arg := range policy.Default().Rules()[0].Probes.Liveness.Exec.Command {
		arg = policy.PortReference.ReplaceAllString(arg, strconv.Itoa(port))
		command = append(command, strings.Replace(arg, "-t 10", patience, 1))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	shell, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, shell, command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil && !strings.Contains(string(out), "was silent") {
		t.Errorf("it does not say why: %q", out)
	}
	return err
}

func fileThatExits(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/profile"
	if err := os.WriteFile(path, []byte("exit 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
