package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/recorder"
)

//go:embed install.yaml
var installYAML string

// Namespace of spark-vitals while stories run. A real installation has another.
const Namespace = "spark-vitals-e2e"

const ownImage = "localhost/e2e/spark-vitals:development"

// Install puts spark-vitals into the cluster and waits until it serves.
func (l *Lab) Install(ctx context.Context) error {
	if err := l.alone(ctx); err != nil {
		return err
	}
	built, err := l.ownImage(ctx)
	if err != nil {
		return err
	}
	if l.own != nil {
		if err := l.Import(ctx, built); err != nil {
			return err
		}
	}
	id, err := built.ID()
	if err != nil {
		return err
	}
	manifests, err := l.manifests(ctx, id)
	if err != nil {
		return fmt.Errorf("installing spark-vitals: %w", err)
	}
	if err := l.Kubectl(ctx, manifests, "apply", "-f", "-"); err != nil {
		return err
	}
	for _, deployment := range []string{"webhook", "recorder"} {
		if err := l.Kubectl(ctx, nil, "-n", Namespace, "rollout", "status", "deployment/"+deployment, "--timeout=2m"); err != nil {
			return err
		}
	}
	return l.serves(ctx)
}

// alone: beside a real installation the stories would try that one, and change
// what it does.
func (l *Lab) alone(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return err
	}
	registered, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("looking for an installation of spark-vitals: %w", err)
	}
	for _, c := range registered.Items {
		if c.Name == Namespace {
			continue
		}
		for _, webhook := range c.Webhooks {
			if strings.Contains(webhook.Name, "spark-vitals.io") {
				return fmt.Errorf("the cluster has an installation of spark-vitals (MutatingWebhookConfiguration %s); the stories need one without", c.Name)
			}
		}
	}
	return nil
}

// serves waits until a driver's pod would be injected: the API server has the
// registration, and reaches the webhook through its Service.
func (l *Lab) serves(ctx context.Context) error {
	const name = Namespace + "-try"
	if err := l.NewNamespace(ctx, name, map[string]string{annotations.Inject: "enabled"}); err != nil {
		return err
	}
	defer l.RemoveNamespace(ctx, name)
	client, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return err
	}
	pod, err := cluster.CapturedPod(captured.Named("spark-3.5.9/driver"), name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		created, err := client.CoreV1().Pods(name).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && created.Annotations[annotations.Injected] != "", err
	})
}

// Uninstall removes what Install has made.
func (l *Lab) Uninstall(ctx context.Context) error {
	return errors.Join(
		l.Kubectl(ctx, nil, "delete", "mutatingwebhookconfigurations,clusterrolebindings", "-l", "e2e=true"),
		l.RemoveNamespace(ctx, Namespace),
	)
}

func (l *Lab) ownImage(ctx context.Context) (image.Image, error) {
	binary, err := cluster.Build(ctx, "cmd/spark-vitals", "spark-vitals", l.Store.Progress)
	if err != nil {
		return image.Image{}, err
	}
	return l.Store.Static(ownImage, binary)
}

func (l *Lab) manifests(ctx context.Context, imageID string) ([]byte, error) {
	certs, err := l.certs(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := fastPolicy()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = template.Must(template.New("install").Parse(installYAML)).Execute(&out, map[string]any{
		"Namespace": Namespace, "Certs": certs, "CA": certs["ca.crt"],
		"Image": ownImage, "ImageID": imageID[:16], "Mutating": registrations,
		"RecorderRole": string(recorder.Role), "RecorderRoles": []string{"spark-vitals-recorder", "spark-vitals-recorder-configmaps"},
		"Policy": string(rules), "PolicyID": fmt.Sprintf("%x", sha256.Sum256(rules))[:10],
	})
	return out.Bytes(), err
}

// certs are those that the cluster has, else new ones, in base64: the webhook of
// an earlier run goes on while stories run.
func (l *Lab) certs(ctx context.Context) (map[string]string, error) {
	files := map[string]string{}
	client, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return nil, err
	}
	secret, err := client.CoreV1().Secrets(Namespace).Get(ctx, "webhook-certs", metav1.GetOptions{})
	if err == nil {
		for name, data := range secret.Data {
			files[name] = base64.StdEncoding.EncodeToString(data)
		}
		return files, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "spark-vitals-certs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	authority, err := cluster.NewAuthority("spark-vitals")
	if err != nil {
		return nil, err
	}
	if err := authority.Issue(dir, "tls", pkix.Name{CommonName: "webhook"}, "webhook."+Namespace+".svc"); err != nil {
		return nil, err
	}
	files["ca.crt"] = base64.StdEncoding.EncodeToString(authority.PEM)
	for _, name := range []string{"tls.crt", "tls.key"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = base64.StdEncoding.EncodeToString(data)
	}
	return files, nil
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
	cmd := exec.CommandContext(ctx, l.kubectl[0], slices.Concat(l.kubectl[1:], args)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %v: %w\n%s", args, err, out)
	}
	return nil
}
