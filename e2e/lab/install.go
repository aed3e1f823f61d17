package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

//go:embed install.yaml
var installYAML string

const ownImage = "localhost/e2e/spark-vitals:development"

// Install puts spark-vitals into the cluster and waits until it serves.
func (l *Lab) Install(ctx context.Context) error {
	binary, err := cluster.Build(ctx, "cmd/spark-vitals", "spark-vitals", l.Store.Progress)
	if err != nil {
		return err
	}
	built, err := l.Store.Static(ownImage, binary)
	if err != nil {
		return err
	}
	if err := l.Import(ctx, built); err != nil {
		return err
	}
	id, err := built.ID()
	if err != nil {
		return err
	}
	manifests, err := l.manifests(id)
	if err != nil {
		return fmt.Errorf("installing spark-vitals: %w", err)
	}
	if err := l.Kubectl(ctx, manifests, "apply", "-f", "-"); err != nil {
		return err
	}
	return l.Kubectl(ctx, nil, "-n", "spark-vitals", "rollout", "status", "deployment/webhook", "--timeout=2m")
}

func (l *Lab) manifests(imageID string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "spark-vitals-certs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	authority, err := cluster.NewAuthority("spark-vitals")
	if err != nil {
		return nil, err
	}
	if err := authority.Issue(dir, "tls", pkix.Name{CommonName: "webhook"}, "webhook.spark-vitals.svc"); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range []string{"tls.crt", "tls.key"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = base64.StdEncoding.EncodeToString(data)
	}
	rules, err := fastPolicy()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = template.Must(template.New("install").Parse(installYAML)).Execute(&out, map[string]any{
		"Cert": files["tls.crt"], "Key": files["tls.key"], "CA": base64.StdEncoding.EncodeToString(authority.PEM),
		"Image": ownImage, "ImageID": imageID[:16], "Mutating": registrations,
		"Policy": string(rules), "PolicyID": fmt.Sprintf("%x", sha256.Sum256(rules))[:10],
	})
	return out.Bytes(), err
}

type registration struct{ Resource, Mode, Path, Objects string }

var registrations = []registration{
	{"pods", "enabled", "/mutate", "{key: spark-role, operator: In, values: [driver, executor]}"},
	{"pods", "audit", "/audit", "{key: spark-role, operator: In, values: [driver, executor]}"},
	{"services", "enabled", "/mutate", "{key: spark-app-selector, operator: Exists}"},
	{"services", "audit", "/audit", "{key: spark-app-selector, operator: Exists}"},
}

// Kubectl runs kubectl on the cluster.
func (l *Lab) Kubectl(ctx context.Context, stdin []byte, args ...string) error {
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "node"), append([]string{"kubectl", "--kubeconfig", l.Cluster.Kubeconfig}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %v: %w\n%s", args, err, out)
	}
	return nil
}
