// Package engines compares the two ways to inject, on a real API server: a compiled policy
// makes of each pod and Service what the webhook's patches make of it.
package engines

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/policy/compile"
)

var (
	controlPlane *cluster.ControlPlane
	client       kubernetes.Interface
)

const unlabelled = "unlabelled"

func TestMain(m *testing.M) {
	ctx := context.Background()
	err := cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error {
		controlPlane, client = c, c.Client
		if err := c.Namespace(ctx, unlabelled, nil); err != nil {
			return err
		}
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// engine is a policy that the API server runs, in namespaces of its own.
type engine struct {
	name   string
	policy *policy.Policy
}

func (e *engine) namespace(mode policy.Mode) string { return e.name + "-" + string(mode) }

var engines = map[string]*engine{}

// installed compiles a policy and creates its objects, once for each source.
func installed(t *testing.T, source string) *engine {
	t.Helper()
	if e, ok := engines[source]; ok {
		return e
	}
	p, err := policy.Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{fmt.Sprintf("engine-%d", len(engines)), p}
	if err := e.install(t.Context(), admissionv1.Fail); err != nil {
		t.Fatalf("%v\n%.2000s", err, source)
	}
	engines[source] = e
	return e
}

// install creates the objects. With the failure policy Fail, an error in CEL shows.
func (e *engine) install(ctx context.Context, failures admissionv1.FailurePolicyType) error {
	compiled, err := compile.Policy(e.policy)
	if err != nil {
		return err
	}
	api := client.AdmissionregistrationV1()
	for i := len(compiled.Policies) - 1; i >= 0; i-- { // that of Services first
		p, b := &compiled.Policies[i], &compiled.Bindings[i]
		p.Name, b.Name, b.Spec.PolicyName = p.Name+"-"+e.name, p.Name+"-"+e.name, p.Name+"-"+e.name
		p.Spec.MatchConstraints.NamespaceSelector.MatchLabels = map[string]string{"engine": e.name}
		p.Spec.FailurePolicy = &failures
		if _, err := api.MutatingAdmissionPolicies().Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
		if _, err := api.MutatingAdmissionPolicyBindings().Create(ctx, b, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return errors.Join(e.namespaces(ctx, map[string]string{"engine": e.name}), e.injects(ctx, "spark-3.5.9/executor"), e.injects(ctx, "spark-3.5.9/driver"))
}

// namespaces creates one for each mode.
func (e *engine) namespaces(ctx context.Context, labels map[string]string) (err error) {
	for _, mode := range []policy.Mode{policy.Enabled, policy.Audit} {
		all := maps.Clone(labels)
		all[annotations.Inject] = string(mode)
		err = errors.Join(err, controlPlane.Namespace(ctx, e.namespace(mode), all))
	}
	return err
}

const patience = 15 * time.Second // until the API server knows a policy

// injects waits until a captured pod gets a stamp.
func (e *engine) injects(ctx context.Context, name string) error {
	pod, err := cluster.CapturedPod(captured.Named(name), "")
	if err != nil {
		return err
	}
	var last error
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		got, err := create(ctx, e.namespace(policy.Enabled), pod)
		last = err
		return err == nil && got.Annotations[annotations.Injected] != "", nil
	})
	return errors.Join(err, last)
}

// create dry-runs the creation of a pod.
func create(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	pod = pod.DeepCopy()
	pod.Namespace = namespace
	return client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
