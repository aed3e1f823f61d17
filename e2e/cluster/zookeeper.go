package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ZooKeeper is a running ZooKeeper server, Debian's.
type ZooKeeper struct {
	Address string // "host:port"
	dir     string
	process *process
}

const (
	zooKeeperJar = "/usr/share/java/zookeeper.jar" // its manifest names all that it needs
	java         = "/usr/bin/java"
)

var zooKeeperPackages = map[string]string{zooKeeperJar: "zookeeper", java: "openjdk-17-jre-headless"}

// StartZooKeeper starts a server in a folder, on a free port of an address of this
// machine, and waits until it answers. It installs ZooKeeper if necessary. The server
// ends with this process. Clients can have sessions from 0.4 to 60 s.
func StartZooKeeper(ctx context.Context, host, dir string, progress io.Writer) (*ZooKeeper, error) {
	if err := InstallPackages(ctx, progress, zooKeeperPackages); err != nil {
		return nil, fmt.Errorf("starting ZooKeeper: %w", err)
	}
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	z := &ZooKeeper{Address: fmt.Sprintf("%s:%d", host, ports[0]), dir: dir}
	config := fmt.Sprintf("tickTime=200\nmaxSessionTimeout=60000\ndataDir=%s\nclientPortAddress=%s\nclientPort=%d\nadmin.enableServer=false\n", filepath.Join(dir, "zookeeper"), host, ports[0])
	if err := os.WriteFile(filepath.Join(dir, "zoo.cfg"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return z, z.Start(ctx)
}

// Start starts the server, also after Stop; it keeps its data.
func (z *ZooKeeper) Start(ctx context.Context) (err error) {
	z.process, err = start(z.dir, "zookeeper", false, java, "-Xmx128m", "-Dzookeeper.4lw.commands.whitelist=srvr", "-Dzookeeper.forceSync=no", "-cp", zooKeeperJar,
		"org.apache.zookeeper.server.ZooKeeperServerMain", filepath.Join(z.dir, "zoo.cfg"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := z.process.until(ctx, z.ready); err != nil {
		z.Stop()
		return err
	}
	return nil
}

// ready returns nil once the server serves. It answers "ruok" before that.
func (z *ZooKeeper) ready(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", z.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return err
	}
	said, err := io.ReadAll(conn)
	if !strings.Contains(string(said), "Mode: ") {
		return fmt.Errorf("srvr: %q (%w)", said, err)
	}
	return nil
}

// Stop ends the server and keeps its data for Start.
func (z *ZooKeeper) Stop() { z.process.stop(10 * time.Second) }

// Freeze stops the process, so that it accepts connections and does not answer, or lets
// it continue.
func (z *ZooKeeper) Freeze(frozen bool) error {
	signal := syscall.SIGCONT
	if frozen {
		signal = syscall.SIGSTOP
	}
	return z.process.cmd.Process.Signal(signal)
}
