package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// StartReleaser runs "spark-vitals releaser" beside the cluster, where it reaches
// what a test serves on loopback, as the service account of its own manifest and
// with its rights alone. Engines run in a namespace that is there.
func (l *Lab) StartReleaser(ctx context.Context, config, engines string) (r *cluster.Leader, stop func() error, err error) {
	if l.own == nil {
		return nil, nil, errors.New("a releaser beside the cluster needs the cluster to be this machine")
	}
	root, err := cluster.Root()
	if err != nil {
		return nil, nil, err
	}
	namespaces := []string{"spark-vitals", "kyuubi"}
	for _, name := range namespaces {
		if err := l.NewNamespace(ctx, name, nil); err != nil {
			return nil, nil, err
		}
	}
	role, err := os.ReadFile(filepath.Join(root, "gateway", "releaser", "role.yaml"))
	if err != nil {
		return nil, nil, err
	}
	role = bytes.ReplaceAll(role, []byte("namespace: spark}"), []byte("namespace: "+engines+"}"))
	if err := l.Kubectl(ctx, role, "apply", "-f", "-"); err != nil {
		return nil, nil, err
	}
	if r, err = l.own.StartReleaser(ctx, "releaser", config, l.Store.Progress); err != nil {
		return nil, nil, err
	}
	return r, func() error {
		r.Stop()
		var errs []error
		for _, name := range namespaces {
			errs = append(errs, l.RemoveNamespace(context.WithoutCancel(ctx), name))
		}
		return errors.Join(errs...)
	}, nil
}
