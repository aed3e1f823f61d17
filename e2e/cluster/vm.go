package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// VM is a second node of the cluster: a virtual machine whose own kernel has cgroup v2,
// whatever this machine has. Only pods that tolerate its taint are scheduled there.
// They need the host's network, because it has no other. They cannot be reached, and
// their logs cannot be read.
type VM struct {
	Name string // of the node
	// SingleProcessOOMKill is the kubelet's: the kernel kills one process for
	// want of memory, and not all of its container.
	SingleProcessOOMKill bool
}

// commandLine is the command line of the kernel. On a starved machine the timer is
// late, and the kernel must not give up because of that. Nothing attacks this kernel.
const commandLine = "root=/dev/nvme0n1 rw init=/e2e/init console=ttyS0 net.ifnames=0 panic=-1" +
	" no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1 mitigations=off"

// StartVM boots a virtual machine and waits until it is a node. Root is the file system
// that it boots. The folder e2e in it has the kubelet ("node") and archives of images,
// and gets the configuration. Stop ends the machine; it ends with this process at the
// latest.
func (c *Cluster) StartVM(ctx context.Context, root string, vm VM) (stop func(), err error) {
	if err := c.configureVM(root, vm); err != nil {
		return nil, fmt.Errorf("configuring the machine %s: %w", vm.Name, err)
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return nil, fmt.Errorf("%s has %d kernels, and not one: %w", root, len(kernels), err)
	}
	disk := filepath.Join(c.Dir, vm.Name+".disk")
	if out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk, "4G").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making the disk of %s: %w\n%s", vm.Name, err, out)
	}
	if err := c.forget(ctx, vm.Name); err != nil { // of an earlier run, which may look ready
		return nil, err
	}
	args := append(processor(), "-m", "2G", "-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio",
		"-kernel", kernels[0], "-append", commandLine, "-nic", "user,model=virtio",
		"-drive", "file="+disk+",format=raw,if=none,id=disk,cache=unsafe", "-device", "nvme,drive=disk,serial=disk")
	p, err := start(c.Dir, vm.Name, false, "/usr/bin/qemu-system-x86_64", args...)
	if err != nil {
		return nil, err
	}
	stop = func() {
		p.stop(time.Second)
		os.Remove(disk)
		_ = c.forget(context.WithoutCancel(ctx), vm.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := p.until(ctx, func(ctx context.Context) error { return c.nodeReady(ctx, vm.Name) }); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// processor chooses qemu's processor: this machine's if KVM can share it (some KVMs run
// only special kernels), or else one in software, without two features that are slow
// there.
func processor() []string {
	flags, _ := os.ReadFile("/proc/cpuinfo")
	if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		kvm.Close()
		if regexp.MustCompile(`\b(vmx|svm)\b`).Match(flags) {
			return []string{"-accel", "kvm", "-cpu", "host"}
		}
	}
	return []string{"-accel", "tcg", "-cpu", "max,-cx16,-la57"}
}

// forget deletes a node that is gone.
func (c *Cluster) forget(ctx context.Context, node string) error {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	if err = client.CoreV1().Nodes().Delete(ctx, node, metav1.DeleteOptions{}); apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Cluster) configureVM(root string, vm VM) error {
	kubeconfig, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		return err
	}
	files := map[string]string{"kubeconfig": string(kubeconfig)}
	for file, text := range vmConfigs {
		var b strings.Builder
		if err := template.Must(template.New(file).Parse(text)).Execute(&b, map[string]any{"VM": vm, "Pause": PauseImage}); err != nil {
			return err
		}
		files[file] = b.String()
	}
	for file, text := range files {
		path := filepath.Join(root, "e2e", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			return err
		}
	}
	return nil
}
