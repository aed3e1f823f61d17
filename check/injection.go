package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// retryTime is for things that are only seconds old: a namespace gets its default
// service account, and the API server learns of labels, roles and registrations,
// later.
const retryTime = 20 * time.Second

// Engine is what injects: a webhook, or else an admission policy.
type Engine struct {
	Webhook string // name of the mutating webhook configuration
	Policy  string // name of the MutatingAdmissionPolicy for drivers, and of its binding
}

func (e Engine) String() string {
	if e.Policy != "" {
		return "policy"
	}
	return "webhook"
}

// Injected is what the API server made of a Spark driver's pod.
type Injected struct {
	Stamp string // what the engine wrote on it
	// Took is the API server's time for it. Without is the time for the same pod
	// without Spark's label, which the engine does not get.
	Took, Without time.Duration
}

// Injection asks the API server for a Spark driver's pod in a namespace that is opted
// in. The error says why the engine wrote nothing on it, as far as that can be found out,
// and for how long such a pod waits.
func Injection(ctx context.Context, client kubernetes.Interface, namespace string, engine Engine) (found Injected, err error) {
	// The calls themselves are not cut off by retryTime: the last one is as long as
	// a webhook that is not reached makes it.
	_ = wait.PollUntilContextTimeout(ctx, time.Second, retryTime, true, func(context.Context) (bool, error) {
		found.Stamp, found.Took, err = ask(ctx, client, namespace, driver())
		return err == nil && found.Stamp != "", nil
	})
	if err == nil {
		found.Without, err = least(ctx, client, namespace, stranger())
	}
	if err == nil && found.Stamp != "" {
		found.Took, err = least(ctx, client, namespace, driver())
	}
	switch {
	case err != nil:
		return Injected{}, fmt.Errorf("asking for a pod in the namespace %s: %w", namespace, err)
	case found.Stamp == "":
		return Injected{}, fmt.Errorf("a Spark pod in the namespace %s got no probes%s: %w", namespace, found.waited(), engine.why(ctx, client))
	}
	return found, nil
}

// waited returns how long a pod waited for a webhook that was not reached, or "" if it
// did not wait. It does not report the time that a busy API server sometimes needs.
func (i Injected) waited() string {
	if delay := i.Took - i.Without; delay > 200*time.Millisecond {
		return fmt.Sprintf(", and until that is fixed each Spark pod and driver Service is created %s later (at most webhook.timeoutSeconds)", delay.Round(100*time.Millisecond))
	}
	return ""
}

func (i Injected) String() string {
	return fmt.Sprintf("%s; the API server took %s for the pod, and %s for one that is not Spark's", i.Stamp, i.Took.Round(time.Millisecond), i.Without.Round(time.Millisecond))
}

// ask asks the API server for a pod, without making it.
func ask(ctx context.Context, client kubernetes.Interface, namespace string, pod *corev1.Pod) (stamp string, took time.Duration, err error) {
	begun := time.Now()
	made, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return "", 0, err
	}
	return made.Annotations[annotations.Injected], time.Since(begun), nil
}

// least returns the shortest time of a few tries: the first makes connections.
func least(ctx context.Context, client kubernetes.Interface, namespace string, pod *corev1.Pod) (took time.Duration, err error) {
	const tries = 5
	for i := range tries {
		_, once, err := ask(ctx, client, namespace, pod)
		if err != nil {
			return 0, err
		}
		if i == 0 || once < took {
			took = once
		}
	}
	return took, nil
}

// stranger returns the same pod as the driver, without Spark's labels.
func stranger() *corev1.Pod {
	pod := driver()
	pod.Labels = nil
	return pod
}

// driver returns the smallest pod that is a driver of Spark's.
func driver() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "spark-vitals-check-",
			Labels:       map[string]string{spark.RoleLabel: string(spark.Driver), spark.ApplicationLabel: "spark-vitals-check"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:   corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(185)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: spark.DriverContainer, Image: "none", Args: []string{"driver"},
				Ports:           []corev1.ContainerPort{{Name: "driver-rpc-port", ContainerPort: 7078}, {Name: "spark-ui", ContainerPort: 4040}},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			}},
		},
	}
}

// why finds out why nothing was injected.
func (e Engine) why(ctx context.Context, client kubernetes.Interface) error {
	if e.Policy != "" {
		return whyNotByPolicy(ctx, client, e.Policy)
	}
	return whyNotByWebhook(ctx, client, e.Webhook)
}

// whyNotByPolicy checks what the API server needs to evaluate a policy.
func whyNotByPolicy(ctx context.Context, client kubernetes.Interface, name string) error {
	api := client.AdmissionregistrationV1()
	policy, err := api.MutatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no MutatingAdmissionPolicy %s, or this cluster does not serve the kind (Kubernetes 1.36 and later do); \"helm upgrade\" restores it, and engine=webhook needs none", name)
	}
	if err != nil {
		return err
	}
	_, err = api.MutatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("the MutatingAdmissionPolicy %s has no binding of its name; it may have been deleted as an emergency stop; \"helm upgrade\" restores it", name)
	}
	if err != nil {
		return err
	}
	cause := "the API server fails to evaluate them (apiserver_mutating_admission_policy_check_total counts errors by error_type), or does not know them yet"
	constraints := policy.Spec.MatchConstraints
	if values := conditions(constraints.NamespaceSelector, chartsOfPolicy, constraints.ObjectSelector, policy.Spec.MatchConditions); len(values) > 0 {
		cause = leftOut(values, cause)
	}
	return fmt.Errorf("the MutatingAdmissionPolicy %s and its binding exist, so %s", name, cause)
}

// whyNotByWebhook checks what the API server does before it calls the webhook, one step
// after the other.
func whyNotByWebhook(ctx context.Context, client kubernetes.Interface, configuration string) error {
	registered, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no mutating webhook configuration %s; it may have been deleted as an emergency stop; \"helm upgrade\" restores it", configuration)
	}
	if err != nil {
		return err
	}
	for _, w := range registered.Webhooks {
		if w.Rules[0].Resources[0] != "pods" || w.NamespaceSelector.MatchLabels[annotations.Inject] != string(annotations.Enabled) {
			continue
		}
		return uncalled(ctx, client, w)
	}
	return fmt.Errorf("the mutating webhook configuration %s has no entry for pods; \"helm upgrade\" writes it again", configuration)
}

// uncalled returns why the API server does not call a webhook, or gets no answer. A
// certain reason comes first. A user's conditions may or may not leave the pod out.
func uncalled(ctx context.Context, client kubernetes.Interface, w admissionregistrationv1.MutatingWebhook) error {
	config := w.ClientConfig
	if len(config.CABundle) == 0 {
		return errors.New("the caBundle of the webhook configuration is empty, so the API server does not trust the webhook. With self-kept certificates a hook writes it (\"helm upgrade\" runs it again), with cert-manager its cainjector")
	}
	service := config.Service
	if service == nil {
		return fmt.Errorf("the webhook configuration names the URL %s, not the chart's Service", *config.URL)
	}
	addresses, err := ready(ctx, client, service.Namespace, service.Name)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return fmt.Errorf("no webhook is ready: kubectl -n %s get pods", service.Namespace)
	}
	host := fmt.Sprintf("%s.%s.svc", service.Name, service.Namespace)
	for _, address := range addresses {
		if err := handshake(ctx, address, host, config.CABundle); err != nil {
			return fmt.Errorf("the webhook at %s, asked from this pod: %w", address, err)
		}
	}
	cause := "the API server cannot reach them. The cause is a firewall that lets the control plane reach nodes only on few ports (webhook.port), " +
		"a control plane that reaches no pods (webhook.hostNetwork=true), or a NetworkPolicy"
	if values := conditions(w.NamespaceSelector, chartsOfWebhook, w.ObjectSelector, w.MatchConditions); len(values) > 0 {
		cause = leftOut(values, cause)
	}
	return fmt.Errorf("the webhooks at %v answer this pod, with a certificate that the API server trusts, so %s", addresses, cause)
}

// leftOut says that a user's conditions are the most likely cause, before another one.
func leftOut(values []string, cause string) string {
	return fmt.Sprintf("your %s probably left out the test's pod: it has only Spark's labels, and the namespace of \"helm test\" has none of your labels. "+
		"Make a Spark pod that your conditions select. If it has no annotation %s either, %s", strings.Join(values, " or "), annotations.Injected, cause)
}

// How many expressions the chart itself writes in a namespace selector. In an object
// selector it writes one.
const (
	chartsOfWebhook = 1
	chartsOfPolicy  = 3
)

// conditions returns the chart's values by which a user limits what is injected.
func conditions(namespaces *metav1.LabelSelector, charts int, objects *metav1.LabelSelector, cel []admissionregistrationv1.MatchCondition) (values []string) {
	if len(namespaces.MatchExpressions) > charts {
		values = append(values, "webhook.namespaceSelector")
	}
	if len(objects.MatchExpressions) > 1 {
		values = append(values, "webhook.objectSelector")
	}
	if len(cel) > 0 {
		values = append(values, "webhook.matchConditions")
	}
	return values
}

// ready returns the ready addresses behind a Service.
func ready(ctx context.Context, client kubernetes.Interface, namespace, name string) (addresses []string, err error) {
	slices, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				for _, p := range s.Ports {
					addresses = append(addresses, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return addresses, nil
}

func handshake(ctx context.Context, address, host string, ca []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("the caBundle of the webhook configuration holds no certificate")
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS13}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("its certificate is not one that the API server trusts: %w; \"helm upgrade\" writes the caBundle again", err)
	case err != nil:
		return err
	}
	return connection.Close()
}
