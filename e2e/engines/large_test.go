package engines

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// large returns a pod of real Spark with more containers, variables and arguments.
func large(t *testing.T, name string, containers, variables, ownVariables, arguments int) *corev1.Pod {
	t.Helper()
	pod, err := cluster.CapturedPod(captured.Named(name), "")
	if err != nil {
		t.Fatal(err)
	}
	sparks := &pod.Spec.Containers[0]
	for i := range ownVariables {
		sparks.Env = append(sparks.Env, corev1.EnvVar{Name: fmt.Sprintf("OWN_VARIABLE_%d", i), Value: strings.Repeat("x", 40)})
	}
	for i := range arguments {
		sparks.Args = append(sparks.Args, fmt.Sprintf("argument-%d", i))
	}
	for i := range containers - 1 {
		c := corev1.Container{Name: fmt.Sprintf("sidecar-%d", i), Image: "sidecar", Ports: []corev1.ContainerPort{{ContainerPort: int32(20000 + i), Protocol: corev1.ProtocolTCP}}}
		for n := range variables {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", n), Value: "value"})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	return pod
}

// The budget of CEL is enough for pods of 100 containers and 1,000 variables.
func TestLargePods(t *testing.T) {
	for _, source := range []string{"", sources()["everything"]} {
		e := installed(t, source)
		for _, name := range []string{"spark-3.5.9/driver", "spark-4.1.4/executor"} {
			for _, pod := range []*corev1.Pod{large(t, name, 100, 10, 0, 0), large(t, name, 100, 1, 1000, 100), large(t, name, 100, 100, 1000, 100)} {
				e.check(t, pod, policy.Enabled, policy.Audit)
			}
		}
	}
}

// Other containers can declare many ports of the range.
func TestManyPorts(t *testing.T) {
	pod := large(t, "spark-4.1.4/executor", 2, 0, 0, 0)
	for port := range int32(3000) {
		pod.Spec.Containers[1].Ports = append(pod.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: 26000 + port, Protocol: corev1.ProtocolTCP})
	}
	installed(t, "").check(t, pod, policy.Enabled)
}

// Of long arguments of a driver the beginning is read.
func TestLongArguments(t *testing.T) {
	pod := large(t, "spark-3.5.9/driver", 1, 0, 0, 0)
	args := &pod.Spec.Containers[0].Args
	*args = slices.Insert(*args, 1, "--conf", "spark.driver.memory=2g")
	for range 3 {
		*args = append(*args, strings.Repeat("x", 100_000))
	}
	*args = slices.Insert(*args, 3, "--conf", "spark.x="+strings.Repeat("x", 100_000))
	installed(t, "").check(t, pod, policy.Enabled)
}

// A pod that costs more than the budget of CEL is created as it was, without what it says
// in the name of spark-vitals, and so is one whose
// binding has no policy.
func TestFailures(t *testing.T) {
	e := &engine{"failing", policy.Default()}
	if err := e.install(t.Context(), admissionv1.Ignore); err != nil {
		t.Fatal(err)
	}
	pods := map[string]*corev1.Pod{"arguments": large(t, "spark-3.5.9/driver", 1, 0, 0, 60_000), "annotations": large(t, "spark-4.1.4/executor", 1, 0, 0, 0)}
	pods["annotations"].Annotations = map[string]string{}
	for i := range 30_000 {
		pods["annotations"].Annotations[strconv.Itoa(i)] = ""
	}
	unchanged := func(name string, pod, forged *corev1.Pod) {
		pod.Spec.AutomountServiceAccountToken, forged.Spec.AutomountServiceAccountToken = new(false), new(false)
		plain, err := create(t.Context(), unlabelled, pod)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := create(t.Context(), e.namespace(policy.Enabled), forged)
		if err != nil {
			t.Fatal(name, err)
		}
		compare(t, name, plain, got)
	}
	for name, pod := range pods {
		forged := pod.DeepCopy()
		metav1.SetMetaDataAnnotation(&forged.ObjectMeta, annotations.State, "forged")
		metav1.SetMetaDataAnnotation(&forged.ObjectMeta, annotations.RemedyRule, "forged")
		unchanged(name, pod, forged)
	}
	api := client.AdmissionregistrationV1().MutatingAdmissionPolicies()
	for _, object := range []string{"drivers", "executors"} {
		if err := api.Delete(t.Context(), "spark-vitals-"+object+"-failing", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pod := large(t, "spark-3.5.9/driver", 1, 0, 0, 0)
	eventually.Succeeds(t, "the policy is gone", func(ctx context.Context) error {
		got, err := create(ctx, e.namespace(policy.Enabled), pod)
		if err == nil && got.Annotations[annotations.Injected] != "" {
			err = errors.New("it is still injected")
		}
		return err
	})
	unchanged("no policy", pod, pod)
}

// A label that would take minutes to compute with does not delay the API server, which
// refuses it after the policies.
func TestLongLabel(t *testing.T) {
	e := installed(t, "")
	pod := large(t, "spark-4.1.4/executor", 1, 0, 0, 0)
	pod.Labels[spark.ApplicationLabel] = strings.Repeat("a", 400_000)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := create(ctx, e.namespace(policy.Enabled), pod); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "must be no more than 63") {
		t.Errorf("%.200v", err)
	}
}

// Values that CEL cannot compute with are no errors.
func TestHostileValues(t *testing.T) {
	e := installed(t, sources()["everything"])
	const digits = "99999999999999999999"
	for name, change := range map[string]func(*corev1.Pod){
		"durations": func(p *corev1.Pod) {
			p.Annotations[annotations.Prefix+"logStall.after"] = "999999h999999h999999h999999h"
		},
		"numbers": func(p *corev1.Pod) {
			for _, setting := range policy.Settings() {
				p.Annotations[annotations.Prefix+setting] = digits
			}
		},
		"limit": func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10E")}}
		},
		"fraction": func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1073741823500m")}}
		},
		"variables": func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			for _, variable := range []string{"SPARK_EXECUTOR_MEMORY", "SPARK_DRIVER_MEMORY", "SPARK_JAVA_OPT_" + digits, "SPARK_JAVA_OPT_1"} {
				c.Env = append(c.Env, corev1.EnvVar{Name: variable, Value: "-Dspark.blockManager.port=" + digits}, corev1.EnvVar{Name: variable, Value: digits + "t"})
			}
			c.Args = append(slices.Clone(c.Args[:1]), "--master", "x", "--driver-memory", digits+"tb", "--conf", "spark.driver.memory", "-c")
		},
		"labels": func(p *corev1.Pod) { p.Labels[spark.VersionLabel] = digits + "." + digits },
		"stamp": func(p *corev1.Pod) {
			p.Annotations[annotations.Injected] = `{"set":["\"]` + strings.Repeat(`"a":"`, 1000)
		},
	} {
		for _, of := range []string{"spark-3.5.9/driver", "spark-4.1.4/executor"} {
			pod := large(t, of, 1, 0, 0, 0)
			pod.Annotations = map[string]string{}
			change(pod)
			got, err := create(t.Context(), e.namespace(policy.Enabled), pod)
			if err != nil || !strings.HasPrefix(got.Annotations[annotations.Injected], `{"rule":`) {
				t.Errorf("%s, %s: %v", of, name, err)
			}
		}
	}
}

// The API server takes each policy that compiles.
func TestLargePolicy(t *testing.T) {
	var b strings.Builder
	for i := range 700 {
		fmt.Fprintf(&b, "\n- {name: r%d, match: {role: driver}, logStall: {after: 1h%ds}}", i, i)
	}
	for i := range 100 {
		fmt.Fprintf(&b, "\n- {name: p%d, match: {role: driver}, acceptUnreadyDriver: true, publishNotReadyAddresses: true, probes: {readiness: {tcpSocket: {port: 4040}, failureThreshold: %d}}}", i, i+1)
	}
	e := installed(t, "rules:"+b.String())
	pod := large(t, "spark-3.5.9/driver", 1, 0, 0, 0)
	e.check(t, pod, policy.Enabled)
	pod.Annotations = map[string]string{annotations.Prefix + "rule": "p99"}
	e.check(t, pod, policy.Enabled)
}
