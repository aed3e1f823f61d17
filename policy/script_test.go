package policy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/internal/eventually"
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
				patience := "60" // the machine may pause
				if l.sick {
					patience = "1"
				}
				if _, err := newContainer(t).check(t, port, patience, variables); (err != nil) != l.sick {
					t.Errorf("sick is %v: %v", err != nil, err)
				}
			})
		}
	}
}

// An image without bash is healthy as far as the check can tell.
func TestDriverLivenessCheckWithoutBash(t *testing.T) {
	silent := loopback.Serve(t, func(c net.Conn) { <-t.Context().Done(); c.Close() })
	if _, err := newContainer(t).check(t, silent, "1", []string{"PATH=" + t.TempDir()}); err != nil {
		t.Error(err)
	}
}

// A driver that does not answer is asked for a thread dump twice, and no other process
// ever is.
func TestThreadDump(t *testing.T) {
	const (
		catches = `trap "echo dump" QUIT` + "\n" + untilEnd
		dies    = untilEnd // as java -Xrs does
		main    = "org.apache.spark.deploy.SparkSubmit"
	)
	silent := loopback.Serve(t, func(c net.Conn) { <-t.Context().Done(); c.Close() })
	closes, refuses := loopback.Serve(t, func(c net.Conn) { c.Close() }), loopback.Serve(t, nil)
	twice := []int{2, 10}
	for name, c := range map[string]struct {
		exe, does, main string
		before          func(*testing.T, *container, *process)
		asked           []int // of the failures in a row
	}{
		"a driver":                     {"java", catches, main, nil, twice},
		"it answered before":           {"java", catches, main, func(t *testing.T, c *container, _ *process) { c.fails(t, silent); c.passes(t, closes) }, twice},
		"its UI was off before":        {"java", catches, main, func(t *testing.T, c *container, _ *process) { c.fails(t, silent); c.passes(t, refuses) }, twice},
		"a JVM that does not catch it": {"java", dies, main, nil, nil},
		"a frozen JVM":                 {"java", catches, main, func(t *testing.T, _ *container, p *process) { p.freeze(t) }, nil},
		"a JVM that is no driver":      {"java", catches, "org.apache.hadoop.fs.FsShell", nil, nil},
		"a JVM with an agent":          {"java", catches, "-agentpath:/profiler.so " + main, nil, nil},
		"a JVM that prints classes":    {"java", catches, "-XX:+PrintClassHistogram " + main, nil, nil},
		"a JVM with other options":     {"java", catches, "-Xmx1g -javaagent:x.jar " + main, nil, twice},
		"not a JVM":                    {"python3", catches, main, nil, nil},
		"no directory to count in":     {"java", catches, main, func(_ *testing.T, c *container, _ *process) { c.tmp += "/missing" }, nil},
		"a link in place of the count": {"java", catches, main, func(t *testing.T, c *container, _ *process) {
			if err := os.Symlink("target", filepath.Join(c.tmp, count)); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.exe, c.does, c.main, nil)
			in := newContainer(t, p)
			if c.before != nil {
				c.before(t, in, p)
			}
			var asked []int
			for failure := 1; failure <= 25; failure++ {
				if strings.Contains(in.fails(t, silent), "asked for a thread dump") {
					asked = append(asked, failure)
				}
			}
			if !slices.Equal(asked, c.asked) {
				t.Errorf("asked at the failures %v, want %v", asked, c.asked)
			}
			if dumps := strings.Count(p.end(t), "dump\n"); dumps != len(c.asked) {
				t.Errorf("%d dumps, want %d", dumps, len(c.asked))
			}
			files, _ := os.ReadDir(in.tmp)
			for _, f := range files {
				if f.Name() != count {
					t.Errorf("the check wrote %s", f.Name())
				}
			}
		})
	}
}

// The JVM of another container is not the driver's, although its process can be seen
// (shareProcessNamespace, hostPID).
func TestThreadDumpOfAnotherContainer(t *testing.T) {
	silent := loopback.Serve(t, func(c net.Conn) { <-t.Context().Done(); c.Close() })
	p := start(t, "java", `trap "echo dump" QUIT`+"\n"+untilEnd, "org.apache.spark.deploy.SparkSubmit", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS})
	in := newContainer(t, p)
	for range 3 {
		in.fails(t, silent)
	}
	if said := p.end(t); strings.Contains(said, "dump") {
		t.Error("it was asked for a thread dump")
	}
}

// untilEnd lets a shell wait until it reads a line.
const untilEnd = "echo up\nuntil read -r; do :; done\necho ended"

// process is a process of a driver's container that behaves as a JVM.
type process struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// start starts a shell whose executable has another name.
func start(t *testing.T, exe, does, main string, how *syscall.SysProcAttr) *process {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(bash)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), exe)
	if err := os.WriteFile(path, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), path, append([]string{"-c", does}, strings.Fields(main)...)...)}
	p.Dir, p.SysProcAttr = t.TempDir(), how
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); errors.Is(err, syscall.EPERM) {
		t.Skip("this user may not make namespaces: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = p.Process.Kill(), p.Wait() })
	if line, err := p.out.ReadString('\n'); line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return p
}

// freeze stops a process, and waits until it is.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the process is stopped", func(context.Context) error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		if err == nil && !strings.Contains(string(status), "(stopped)") {
			err = errors.New("it runs")
		}
		return err
	})
}

// end ends a process, which must still run. It returns what it wrote.
func (p *process) end(t *testing.T) string {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGCONT)
	_, _ = io.WriteString(p.in, "\n")
	said, err := io.ReadAll(p.out)
	if err != nil || !strings.HasSuffix(string(said), "ended\n") {
		t.Errorf("it was ended: %q, %v", said, p.Wait())
	}
	return string(said)
}

// container is what the check sees of a driver's container: its processes, and its
// directory for temporary files.
type container struct{ proc, tmp string }

// count is the file in which the check counts failures.
const count = ".spark-vitals-driver"

func newContainer(t *testing.T, processes ...*process) *container {
	t.Helper()
	c := &container{t.TempDir(), t.TempDir()}
	seen := []string{"self"}
	for _, p := range processes {
		seen = append(seen, strconv.Itoa(p.Process.Pid))
	}
	for _, name := range seen {
		if err := os.Symlink("/proc/"+name, filepath.Join(c.proc, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *container) passes(t *testing.T, port int) {
	t.Helper()
	if said, err := c.check(t, port, "60", nil); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func (c *container) fails(t *testing.T, port int) (said string) {
	t.Helper()
	said, err := c.check(t, port, "0.01", nil)
	if err == nil {
		t.Fatal("a silent UI passes")
	}
	return said
}

// check runs the probe's command, with other seconds to wait than ten.
func (c *container) check(t *testing.T, port int, seconds string, environment []string) (said string, err error) {
	t.Helper()
	command := []string{}
	for _, arg := range policy.Default().Rules()[0].Probes.Liveness.Exec.Command {
		arg = policy.PortReference.ReplaceAllString(arg, strconv.Itoa(port))
		command = append(command, strings.NewReplacer("-t 10", "-t "+seconds, "/proc/", c.proc+"/", "/dev/shm/", c.tmp+"/").Replace(arg))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	shell, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, shell, command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOSTNAME=driver"}, environment...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil && !strings.Contains(string(out), "was silent") {
		t.Errorf("it does not say why: %q", out)
	}
	return string(out), err
}

func fileThatExits(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/profile"
	if err := os.WriteFile(path, []byte("exit 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
