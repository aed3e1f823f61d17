package cluster

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Webhook is a running "spark-vitals webhook".
type Webhook struct {
	URL, HealthURL, MetricsURL string
	process                    *process
}

// StartWebhook builds spark-vitals and runs its webhook beside the cluster, with a
// certificate of the cluster's authority.
func (c *ControlPlane) StartWebhook(ctx context.Context, progress io.Writer, flags ...string) (*Webhook, error) {
	binary, err := buildOnce(progress)
	if err != nil {
		return nil, err
	}
	certs := filepath.Join(c.Dir, "webhook")
	if err := c.issueServing(certs); err != nil {
		return nil, fmt.Errorf("making the webhook's certificate: %w", err)
	}
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	w := &Webhook{URL: "https://" + address(0), HealthURL: "http://" + address(2), MetricsURL: "http://" + address(1) + "/metrics"}
	args := append([]string{
		"webhook", "--cert-dir=" + certs, "--bind-address=" + address(0),
		"--metrics-bind-address=" + address(1), "--health-probe-bind-address=" + address(2),
	}, flags...)
	if w.process, err = start(c.Dir, fmt.Sprintf("webhook-%d", ports[0]), false, binary, args...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.process.until(ctx, w.Ready); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

func (c *ControlPlane) issueServing(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return c.Authority.Issue(dir, "tls", pkix.Name{CommonName: "spark-vitals-webhook"}, "127.0.0.1")
}

// Ready reports whether the webhook is ready, as a kubelet would ask.
func (w *Webhook) Ready(ctx context.Context) error {
	_, err := get(ctx, w.HealthURL+"/readyz")
	return err
}

// Metrics returns the webhook's metrics, as text.
func (w *Webhook) Metrics(ctx context.Context) (string, error) { return get(ctx, w.MetricsURL) }

// Stop ends the webhook as a kubelet would.
func (w *Webhook) Stop() { w.process.stop(30 * time.Second) }

// Kill ends the webhook at once.
func (w *Webhook) Kill() { w.process.kill() }

// PID returns the webhook's process id.
func (w *Webhook) PID() int { return w.process.cmd.Process.Pid }

// Register registers a webhook under a name, for pods and driver Services in namespaces
// with the label of a mode and with more labels, each mode with its own path. The
// timeout is 30 s, the longest possible, unless it is changed: on a slow machine a call
// is then late, and not missed.
func (c *ControlPlane) Register(ctx context.Context, name, url string, labels map[string]string, change ...func(*admissionregistrationv1.MutatingWebhook)) error {
	mutating := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for mode, path := range map[string]string{"enabled": "/mutate", "audit": "/audit"} {
		for resource, selector := range objectSelectors {
			mutating.Webhooks = append(mutating.Webhooks, admissionregistrationv1.MutatingWebhook{
				Name:                    fmt.Sprintf("%s.%s.spark-vitals.io", resource, mode),
				ClientConfig:            c.ClientConfig(url + path),
				Rules:                   CreationOf(resource),
				NamespaceSelector:       labelled(mode, labels),
				ObjectSelector:          selector,
				FailurePolicy:           new(admissionregistrationv1.Ignore),
				SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
				ReinvocationPolicy:      new(admissionregistrationv1.IfNeededReinvocationPolicy),
				TimeoutSeconds:          new(int32(30)),
				AdmissionReviewVersions: []string{"v1"},
			})
		}
	}
	for i := range mutating.Webhooks {
		for _, each := range change {
			each(&mutating.Webhooks[i])
		}
	}
	if _, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, mutating, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("registering the mutating webhook: %w", err)
	}
	return nil
}

// RegisterValidation registers a webhook that runs with --validation=deny, under a
// name. It is for drivers alone, because nothing else is ever refused, and /mutate has
// already reported everything.
func (c *ControlPlane) RegisterValidation(ctx context.Context, name, url string, labels map[string]string) error {
	validating := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    "validate.spark-vitals.io",
			ClientConfig:            c.ClientConfig(url + "/validate"),
			Rules:                   CreationOf("pods"),
			NamespaceSelector:       labelled("enabled", labels),
			ObjectSelector:          &metav1.LabelSelector{MatchLabels: map[string]string{spark.RoleLabel: string(spark.Driver)}},
			FailurePolicy:           new(admissionregistrationv1.Ignore),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(30)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
	if _, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, validating, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("registering the validating webhook: %w", err)
	}
	return nil
}

// ClientConfig returns how the API server reaches a webhook whose certificate the
// cluster's authority issued.
func (c *ControlPlane) ClientConfig(url string) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: c.Authority.PEM}
}

// CreationOf returns the rules of a webhook for the creation of a resource.
func CreationOf(resource string) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
	}}
}

func labelled(mode string, more map[string]string) *metav1.LabelSelector {
	all := map[string]string{annotations.Inject: mode}
	maps.Copy(all, more)
	return &metav1.LabelSelector{MatchLabels: all}
}

var objectSelectors = map[string]*metav1.LabelSelector{
	"pods":     {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: spark.RoleLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{string(spark.Driver), string(spark.Executor)}}}},
	"services": {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: spark.ApplicationLabel, Operator: metav1.LabelSelectorOpExists}}},
}

// FailedOpen returns how often the API server continued without a webhook because the
// call failed.
func (c *ControlPlane) FailedOpen(ctx context.Context) (int, error) {
	text, err := c.Client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	n := 0.0
	for _, metric := range families["apiserver_admission_webhook_fail_open_count"].GetMetric() {
		n += metric.GetCounter().GetValue()
	}
	return int(n), nil
}
