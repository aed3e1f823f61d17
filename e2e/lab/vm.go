package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// vmPackages are the packages that virtual machines also need.
var vmPackages = map[string]string{"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs"}

// GrowImage is the image of a program that exceeds its memory limit, itself or in a
// child process; see command grow. Only virtual machines have it.
const GrowImage = "localhost/e2e/grow:1"

// StartVM adds a virtual machine to the nodes until stop.
func (l *Lab) StartVM(ctx context.Context, vm cluster.VM) (stop func(), err error) {
	if l.own == nil {
		return nil, errors.New("a virtual machine can only join a cluster that is this machine")
	}
	if err := cluster.InstallPackages(ctx, l.Store.Progress, vmPackages); err != nil {
		return nil, err
	}
	root, err := l.Store.Machine(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for name, program := range map[string]string{cluster.PauseImage: "pause", GrowImage: "grow"} {
		binary, err := cluster.Build(ctx, "e2e/"+program, program, l.Store.Progress)
		if err != nil {
			return nil, err
		}
		built, err := l.Store.Static(name, binary)
		if err != nil {
			return nil, err
		}
		if err := built.Write(filepath.Join(dir, program+".tar")); err != nil {
			return nil, err
		}
	}
	node, err := os.ReadFile(l.kubectl[0])
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "node"), node, 0o755); err != nil {
		return nil, err
	}
	fmt.Fprintf(l.Store.Progress, "  booting the virtual machine %s\n", vm.Name)
	return l.own.StartVM(ctx, root, vm)
}
