package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a component of a cluster.
type process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan error // closed after the child has ended; holds how
}

// start runs a command in a folder, logging to <name>.log there. The child ends
// with this process, unless it is detached: then its id is kept in <name>.pid,
// for stopDetached.
func start(dir, name string, detached bool, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan error, 1)}
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
		return p, os.WriteFile(filepath.Join(dir, name+".pid"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0o600)
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
		p.ended <- p.cmd.Wait()
		close(p.ended)
	}
}

// stop ends the child, with force when it takes longer than patience.
func (p *process) stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// stopDetached ends what an earlier process started detached, if it still runs
// the binary that it did.
func stopDetached(dir, name, binary string, patience time.Duration) {
	pidFile := filepath.Join(dir, name+".pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	defer os.Remove(pidFile)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	runs := func() bool {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err == nil && bytes.HasPrefix(command, []byte(binary+"\x00"))
	}
	signal := syscall.SIGTERM
	for end := time.Now().Add(patience); runs(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			signal = syscall.SIGKILL
		}
		_ = syscall.Kill(pid, signal)
	}
}

// until waits until ready says so, or the child ends, or the context does.
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
			return explain(fmt.Errorf("%s ended (%s); the end of its log:\n%s", p.name, p.cmd.ProcessState, p.tail()))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w; the end of its log:\n%s", p.name, ctx.Err(), err, p.tail())
		}
	}
}

// tail is the end of the child's log.
func (p *process) tail() []byte {
	const lines = 15
	log, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	all := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
