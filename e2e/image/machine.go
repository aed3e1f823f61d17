package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Machine returns the folder of a whole Debian with a kernel and containerd, for a
// virtual machine to boot. Building it takes two minutes; later it exists.
func (s Store) Machine(ctx context.Context) (root string, err error) {
	root = filepath.Join(s.Dir, "machine")
	if exists(root) {
		return root, nil
	}
	fmt.Fprintln(s.Progress, "  downloading a Debian with a kernel and containerd, two minutes")
	if err := s.download(ctx, root+".part", "debootstrap", "--variant=minbase", "--include=linux-image-cloud-amd64,containerd,iproute2,mount", "trixie", root+".part"); err != nil {
		return "", err
	}
	for _, cache := range []string{"var/cache/apt", "var/lib/apt"} {
		if err := os.RemoveAll(filepath.Join(root+".part", cache)); err != nil {
			return "", err
		}
	}
	return root, os.Rename(root+".part", root)
}
