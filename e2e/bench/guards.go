package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/captured"
)

var (
	guardRounds = flag.Int("guard-rounds", 4, "guards: rounds, each with and without the guards")
	guardWrites = flag.Int("guard-writes", 800, "guards: status writes of each pod in a round")
)

// benchGuards measures the API server's CPU for a status write by a user who is no
// account of the chart, with the chart's guards and without.
func benchGuards(ctx context.Context, d *document) error {
	return cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error { return benchGuardsOn(ctx, c, d) })
}

func benchGuardsOn(ctx context.Context, c *cluster.ControlPlane, d *document) error {
	if err := d.heading(); err != nil {
		return err
	}
	g := &guards{client: c.Client}
	if err := g.make(ctx, c); err != nil {
		return err
	}
	pods, err := g.pods(ctx, c)
	if err != nil {
		return err
	}
	d.say("\nPATCH of pods/status by another account, %d rounds of %d writes of each pod, with the guards and without in turns. The figures are the CPU of the API server's process, the median of the rounds.", *guardRounds, *guardWrites)
	d.table("pod", "without, ms", "with, ms", "with, of without")
	wanted := &aims{}
	for _, pod := range pods {
		if err := g.measure(ctx, pod); err != nil {
			return err
		}
	}
	for _, pod := range pods {
		without, with := quantile(pod.cpu[false], .5), quantile(pod.cpu[true], .5)
		d.row(pod.what, fmt.Sprintf("%.2f", without), fmt.Sprintf("%.2f", with), fmt.Sprintf("%.2f", with/without))
		wanted.add("status write of a "+pod.what+": CPU of the API server, of that without guards", with/without, 1.15)
	}
	wanted.write(d)
	return nil
}

// guards are the guards of the chart, and the clients that find out whether they are in
// force.
type guards struct {
	client   kubernetes.Interface
	recorder kubernetes.Interface // it holds all rights, so only a guard refuses it
	bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding
	probe    *corev1.Pod
	probes   int
}

// guardedPod is a pod, and the CPU of a write of its status, with and without guards.
type guardedPod struct {
	what string
	*corev1.Pod
	cpu map[bool][]time.Duration
}

// make creates the policies. They do nothing until they have bindings.
func (g *guards) make(ctx context.Context, c *cluster.ControlPlane) error {
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:spark-vitals:spark-vitals-recorder", Groups: []string{"system:masters"}}
	var err error
	if g.recorder, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	rendered, err := helm.Render(nil)
	if err != nil {
		return err
	}
	for _, document := range strings.Split(rendered.Objects, "\n---\n") {
		switch {
		case strings.Contains(document, "kind: ValidatingAdmissionPolicyBinding\n"):
			b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
			if err := decode(document, b); err != nil {
				return err
			}
			g.bindings = append(g.bindings, b)
		case strings.Contains(document, "kind: ValidatingAdmissionPolicy\n"):
			p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
			if err := decode(document, p); err != nil {
				return err
			}
			if _, err := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, p, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
	}
	if len(g.bindings) == 0 {
		return errors.New("the chart has no guards")
	}
	return nil
}

func decode(document string, into any) error {
	err := yaml.NewYAMLOrJSONDecoder(strings.NewReader(document), 1<<20).Decode(into)
	if errors.Is(err, io.EOF) {
		err = errors.New("an empty document")
	}
	return err
}

// pods returns the pods whose status is written: a small one, and one made by Spark.
func (g *guards) pods(ctx context.Context, c *cluster.ControlPlane) ([]*guardedPod, error) {
	if err := c.Namespace(ctx, namespace, nil); err != nil {
		return nil, err
	}
	small := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}}}
	for i := range 20 {
		small.Spec.Containers[0].Env = append(small.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "value"})
	}
	executor, err := cluster.CapturedPod(captured.Named("spark-3.5.9/executor"), namespace)
	if err != nil {
		return nil, err
	}
	executor.OwnerReferences = nil
	all := []*guardedPod{{what: "pod with 20 variables", Pod: small}, {what: "captured Spark executor", Pod: executor}}
	for _, pod := range all {
		pod.cpu = map[bool][]time.Duration{}
		pod.Name, pod.GenerateName = "", "guarded-"
		if pod.Pod, err = g.client.CoreV1().Pods(namespace).Create(ctx, pod.Pod, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	for _, pod := range all {
		if err := g.status(ctx, pod, conditions); err != nil {
			return nil, err
		}
	}
	g.probe, err = g.client.CoreV1().Pods(namespace).Create(ctx, small, metav1.CreateOptions{})
	return all, err
}

// measure measures a pod with and without guards in turns. What is first in a round is
// second in the next.
func (g *guards) measure(ctx context.Context, pod *guardedPod) error {
	for round := range *guardRounds * 2 {
		with := (round+1)/2%2 == 1
		if err := g.set(ctx, with); err != nil {
			return err
		}
		for i := range *guardWrites / 10 { // caches
			if err := g.write(ctx, pod, round, -i); err != nil {
				return err
			}
		}
		before, err := g.spent(ctx)
		if err != nil {
			return err
		}
		for i := range *guardWrites {
			if err := g.write(ctx, pod, round, i); err != nil {
				return err
			}
		}
		after, err := g.spent(ctx)
		if err != nil {
			return err
		}
		pod.cpu[with] = append(pod.cpu[with], time.Duration((after-before)/float64(*guardWrites)*float64(time.Second)))
	}
	return nil
}

// conditions returns the conditions that a kubelet gives a pod.
const conditions = `{"status":{"conditions":[
	{"type":"PodReadyToStartContainers","status":"True"},{"type":"Initialized","status":"True"},{"type":"PodScheduled","status":"True"},
	{"type":"Ready","status":"False","reason":"ContainersNotReady"},{"type":"ContainersReady","status":"False","reason":"ContainersNotReady"}]}}`

// write writes a status as kubelets mostly do: a pod becomes Ready, or is not any more.
func (g *guards) write(ctx context.Context, pod *guardedPod, round, i int) error {
	ready := map[bool]string{true: "True", false: "False"}[i%2 == 0]
	return g.status(ctx, pod, fmt.Sprintf(`{"status":{"message":"write %d of round %d","conditions":[{"type":"Ready","status":%q},{"type":"ContainersReady","status":%q}]}}`, i, round, ready, ready))
}

func (g *guards) status(ctx context.Context, pod *guardedPod, text string) error {
	_, err := g.client.CoreV1().Pods(namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, "status")
	return err
}

// set puts the guards in force or out of force, and waits until they are.
func (g *guards) set(ctx context.Context, inForce bool) error {
	bindings := g.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	for _, b := range g.bindings {
		var err error
		if inForce {
			_, err = bindings.Create(ctx, b, metav1.CreateOptions{})
		} else {
			err = bindings.Delete(ctx, b.Name, metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		g.probes++
		text := fmt.Sprintf(`{"metadata":{"labels":{"probe":"%d"}}}`, g.probes)
		_, err := g.recorder.CoreV1().Pods(namespace).Patch(ctx, g.probe.Name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsForbidden(err) {
			return false, err
		}
		return inForce == (err != nil), nil
	})
}

// spent returns the CPU time of the API server's process, in seconds.
func (g *guards) spent(ctx context.Context) (float64, error) {
	raw, err := g.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	return sum(cpu, string(raw)), err
}
