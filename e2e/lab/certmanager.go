package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// StartCertManager runs cert-manager's controllers beside the cluster and creates its
// CRDs, which stop deletes.
func (l *Lab) StartCertManager(ctx context.Context) (stop func() error, err error) {
	crds, err := cluster.CertManagerCRDs(ctx)
	if err != nil {
		return nil, err
	}
	binary, err := cluster.Build(ctx, "e2e/addons/certmanager", "certmanager", l.Store.Progress)
	if err != nil {
		return nil, err
	}
	if err := l.Kubectl(ctx, nil, "apply", "--server-side", "-f", crds); err != nil {
		return nil, err
	}
	controllers := exec.CommandContext(context.WithoutCancel(ctx), binary, l.Kubeconfig)
	controllers.Stderr = l.Store.Progress
	if err := controllers.Start(); err != nil {
		return nil, err
	}
	return func() error {
		err := controllers.Process.Signal(os.Interrupt)
		_ = controllers.Wait() // it was asked to end
		return errors.Join(err, l.Kubectl(context.WithoutCancel(ctx), nil, "delete", "-f", crds))
	}, nil
}
