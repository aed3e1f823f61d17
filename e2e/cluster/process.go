package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// patience only guards against waiting for ever: a busy machine is slow, and a process
// that ends is noticed at once.
const patience = 10 * time.Minute

// process is a component of a cluster.
type process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{} // closed after the child has ended
}

// start runs a command in a folder, logging to <name>.log there. The child ends
// with this process, unless it is detached: then its id is kept in <name>.pid,
// for stopDetached.
func start(dir, name string, detached bool, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !detached {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	if detached {
		pid := p.cmd.Process.Pid
		return p, os.WriteFile(filepath.Join(dir, name+".pid"), fmt.Appendf(nil, "%d %s", pid, startOf(pid)), 0o600)
	}
	return p, nil
}

// run starts the child and waits for it on one thread: the kernel ends the child
// when the thread that started it ends.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // ProcessState says how
		close(p.ended)
	}
}

// stop ends the child, with force if it takes longer than patience.
func (p *process) stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
	}
}

// kill ends the child as the kernel would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// startOf returns when a process started, in the kernel's ticks, or "" if it has ended.
// A process id with its start time identifies a process.
func startOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field may hold anything but ends with the last ")".
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const start = 19 // the 22nd field of all, the state being the third
	if len(fields) <= start || fields[0] == "Z" {
		return ""
	}
	return fields[start]
}

// detached returns a process that another run started, while it runs.
func detached(dir, name string) (pid int, runs func() bool) {
	var start string
	text, err := os.ReadFile(filepath.Join(dir, name+".pid"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid, &start)
	}
	return pid, func() bool { return err == nil && startOf(pid) == start }
}

// stopDetached ends a detached process of an earlier run, if it still runs.
func stopDetached(dir, name string, patience time.Duration) {
	defer os.Remove(filepath.Join(dir, name+".pid"))
	pid, runs := detached(dir, name)
	signal := syscall.SIGTERM
	for end := time.Now().Add(patience); runs(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			signal = syscall.SIGKILL
		}
		_ = syscall.Kill(pid, signal)
	}
}

// until waits until ready returns nil, the child ends, or the context ends.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return p.running()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w; the end of its log:\n%s", p.name, ctx.Err(), err, p.tail())
		}
	}
}

// running returns nil, or an error that says how the child ended.
func (p *process) running() error {
	select {
	case <-p.ended:
		return explain(fmt.Errorf("%s ended (%s); the end of its log:\n%s", p.name, p.cmd.ProcessState, p.tail()))
	default:
		return nil
	}
}

// tail returns the end of the child's log.
func (p *process) tail() []byte {
	const lines = 15
	log, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	all := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
