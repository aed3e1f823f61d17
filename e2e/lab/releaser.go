package lab

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// StartReleaser runs "spark-vitals releaser" beside the cluster, where it reaches what
// a test serves on loopback. Engines run in a namespace that exists. It replaces the
// Deployment of its manifest, with the manifest's service account and rights; the
// rights in the namespace spark are granted where engines run instead. It makes the
// namespaces of the manifest, and stop removes them. The log is a file.
func (l *Lab) StartReleaser(ctx context.Context, config, engines string) (log string, stop func() error, err error) {
	if l.own == nil {
		return "", nil, errors.New("a job beside the cluster needs the cluster to be this machine")
	}
	namespaces := []string{"spark-vitals", "kyuubi"}
	for _, name := range namespaces {
		if err := l.NewNamespace(ctx, name, nil); err != nil {
			return "", nil, err
		}
	}
	manifest, err := cluster.File("gateway/releaser/manifest.yaml")
	if err != nil {
		return "", nil, err
	}
	documents := strings.Split(strings.ReplaceAll(string(manifest), "namespace: spark\n", "namespace: "+engines+"\n"), "\n---\n")
	documents = slices.DeleteFunc(documents, func(d string) bool { return strings.Contains(d, "\nkind: Deployment\n") })
	role := []byte(strings.Join(documents, "\n---\n"))
	if err := l.Kubectl(ctx, role, "apply", "-f", "-"); err != nil {
		return "", nil, err
	}
	releaser, err := l.own.StartReleaser(ctx, "releaser", config, l.Store.Progress)
	if err != nil {
		return "", nil, err
	}
	return releaser.Log, func() error {
		releaser.Stop()
		ctx := context.WithoutCancel(ctx)
		errs := []error{l.Kubectl(ctx, role, "delete", "--ignore-not-found", "-f", "-")}
		for _, name := range namespaces {
			errs = append(errs, l.RemoveNamespace(ctx, name))
		}
		return errors.Join(errs...)
	}, nil
}
