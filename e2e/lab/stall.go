package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// StartStallWatch runs "spark-vitals stallwatch" beside the cluster, as the
// service account of its own manifest and with its rights alone.
func (l *Lab) StartStallWatch(ctx context.Context) (w *cluster.Leader, stop func() error, err error) {
	if l.own == nil {
		return nil, nil, errors.New("a stall watch beside the cluster needs the cluster to be this machine")
	}
	root, err := cluster.Root()
	if err != nil {
		return nil, nil, err
	}
	role, err := os.ReadFile(filepath.Join(root, "stall", "watch", "role.yaml"))
	if err != nil {
		return nil, nil, err
	}
	const namespace = "spark-vitals"
	if err := l.NewNamespace(ctx, namespace, nil); err != nil {
		return nil, nil, err
	}
	if err := l.Kubectl(ctx, role, "apply", "-f", "-"); err != nil {
		return nil, nil, err
	}
	if w, err = l.own.StartStallWatch(ctx, "stallwatch", l.Store.Progress, "--metrics-bind-address=0"); err != nil {
		return nil, nil, err
	}
	return w, func() error {
		w.Stop()
		return l.RemoveNamespace(context.WithoutCancel(ctx), namespace)
	}, nil
}
