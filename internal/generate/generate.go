// Package generate draws Spark's pods, and pods that only look like them, at random
// for property tests. They are valid for the API server, and in every shape that the
// patches look at. The e2e module sends the same pods to a real API server.
package generate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Pods draws pods.
func Pods() *rapid.Generator[*corev1.Pod] { return rapid.Custom(pod) }

// Policies draws one of [EachPolicy].
func Policies() *rapid.Generator[string] { return rapid.SampledFrom(EachPolicy()) }

// EachPolicy returns each ready-made rule set as a policy, and one that does
// everything.
func EachPolicy() (all []string) {
	for _, name := range policy.RuleSets {
		all = append(all, "ruleSet: "+name)
	}
	return append(all, Everything)
}

// Everything returns a policy that does all that a policy can, and accepts all harm.
const Everything = `
rules:
- name: all
  match: {role: driver}
  acceptEarlyEnd: true
  probes:
    startup: {httpGet: {port: spark-ui}, periodSeconds: 1}
    readiness: {tcpSocket: {port: driver-rpc-port}, periodSeconds: 1}
    liveness: {exec: {command: [check, "$(port:spark-ui)"]}, terminationGracePeriodSeconds: 5}
  memoryAnnotations: true
  publishNotReadyAddresses: true
  fallbackToLogsOnError: true
  exitOnOutOfMemoryError: true
  logStall: {after: 30m}
- name: all
  match: {role: executor}
  acceptEarlyEnd: true
  probes:
    liveness: {tcpSocket: {port: blockmanager}}
  blockManagerPort: {from: 20000, to: 20007}
  processTreeMetrics: true
  remedy: {mode: enabled}
  memoryAnnotations: true
  fallbackToLogsOnError: true
`

func pod(t *rapid.T) *corev1.Pod {
	role := rapid.SampledFrom([]spark.Role{spark.Driver, spark.Executor}).Draw(t, "role")
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        "p",
			Labels:      labels(t, role),
			Annotations: settings(t),
		},
		Spec: corev1.PodSpec{
			RestartPolicy: rapid.SampledFrom([]corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyAlways}).Draw(t, "restartPolicy"),
			HostNetwork:   sometimes(t, "hostNetwork"),
		},
	}
	if sometimes(t, "owner") {
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: rapid.SampledFrom([]string{"v1", "spark.apache.org/v1", "apps/v1"}).Draw(t, "owner's API"),
			Kind:       "Owner", Name: "o", UID: "u",
		}}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "sidecars in front") {
		p.Spec.Containers = append(p.Spec.Containers, sidecar(t, fmt.Sprintf("front-%d", i)))
	}
	p.Spec.Containers = append(p.Spec.Containers, container(t, role))
	if sometimes(t, "sidecar behind") {
		p.Spec.Containers = append(p.Spec.Containers, sidecar(t, "behind"))
	}
	return p
}

func labels(t *rapid.T, role spark.Role) map[string]string {
	l := map[string]string{spark.RoleLabel: string(role), "team": "data"}
	if often(t, "application") {
		l[spark.ApplicationLabel] = rapid.StringMatching(`spark-[0-9a-f]{4}`).Draw(t, "application")
	}
	if often(t, "version") {
		l[spark.VersionLabel] = rapid.SampledFrom([]string{"3.3.4", "3.5.6", "3.5.9", "4.0.0-preview1", "4.0.1", "4.1.4", "4.2.0", "4.3.0", "3.5.1-amzn-0", "newest"}).Draw(t, "version")
	}
	if role == spark.Executor && sometimes(t, "of a workload") {
		l[spark.ExecutorIDLabel] = spark.UnknownExecutorID
	}
	if sometimes(t, "Apache's operator") {
		l["spark.operator/spark-app-name"] = "app"
	}
	return l
}

func settings(t *rapid.T) map[string]string {
	if !sometimes(t, "annotations") {
		return nil
	}
	keys := append(policy.Settings(), "inject", "rule", "typo")
	for _, key := range append(append([]string{}, annotations.Stamps...), annotations.Record...) {
		keys = append(keys, strings.TrimPrefix(key, annotations.Prefix))
	}
	values := rapid.SampledFrom([]string{"true", "false", "disabled", "audit", "ui", "strict", "all", "0", "1", "30", "45m", "-1", "99999999999", "", "\x00\n\"", strings.Repeat("x", 500)})
	m := map[string]string{"example.com/own": "stands"}
	for key, value := range rapid.MapOfN(rapid.SampledFrom(keys), values, 0, 6).Draw(t, "settings") {
		m[annotations.Prefix+key] = value
	}
	if sometimes(t, "no room") {
		space := 256<<10 - rapid.IntRange(0, 1500).Draw(t, "room left")
		for key, value := range m {
			space -= len(key) + len(value)
		}
		if space > 100 {
			m["example.com/large"] = strings.Repeat("x", space-len("example.com/large"))
		}
	}
	return m
}

func container(t *rapid.T, role spark.Role) corev1.Container {
	c := corev1.Container{
		Name:  rapid.SampledFrom([]string{"spark-kubernetes-" + string(role), "main"}).Draw(t, "name"),
		Image: "spark",
		Env:   environment(t, role),
		Ports: ports(t, role),
	}
	if often(t, "args") {
		c.Args = []string{string(role), "--class", rapid.SampledFrom([]string{"com.acme.Main", "org.apache.spark.deploy.PythonRunner"}).Draw(t, "class")}
	}
	if sometimes(t, "command") {
		c.Command = []string{"/wrapper"}
	}
	if sometimes(t, "envFrom") {
		c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}}
	}
	if often(t, "limit") {
		c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(rapid.Int64Range(1, 1<<40).Draw(t, "limit"), resource.BinarySI)}
	}
	if sometimes(t, "termination message") {
		c.TerminationMessagePolicy = rapid.SampledFrom([]corev1.TerminationMessagePolicy{corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError}).Draw(t, "policy")
		c.TerminationMessagePath = rapid.SampledFrom([]string{"", "/dev/termination-log", "/tmp/why"}).Draw(t, "path")
	}
	for _, name := range policy.ProbeNames {
		if sometimes(t, "own "+string(name)) {
			*name.Of(&c) = probe(t, name)
		}
	}
	return c
}

func environment(t *rapid.T, role spark.Role) (env []corev1.EnvVar) {
	own := []corev1.EnvVar{
		{Name: "SPARK_DRIVER_BIND_ADDRESS", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "SPARK_EXECUTOR_ID", Value: "1"},
	}
	if often(t, "Spark's environment") {
		env = append(env, own[map[spark.Role]int{spark.Driver: 0, spark.Executor: 1}[role]])
	}
	some := rapid.SampledFrom([]corev1.EnvVar{
		{Name: "SPARK_EXECUTOR_MEMORY", Value: "4096m"}, {Name: "SPARK_EXECUTOR_MEMORY", Value: "?"},
		{Name: "SPARK_JAVA_OPT_0", Value: "-Dspark.driver.blockManager.port=7079"}, {Name: "SPARK_JAVA_OPT_17", Value: "-Dspark.blockManager.port=7200"},
		{Name: "SPARK_JAVA_OPT_4", Value: "-Dspark.executor.processTreeMetrics.enabled=true"}, {Name: "SPARK_JAVA_OPT_5", Value: "-Dspark.executor.processTreeMetrics.enabled=false"},
		{Name: "SPARK_JAVA_OPT_3", Value: "-Dspark.blockManager.port=0"}, {Name: "SPARK_JAVA_OPT_X", Value: "-ea"}, {Name: "SPARK_JAVA_OPT_99999999999", Value: "-ea"},
		{Name: "JDK_JAVA_OPTIONS"}, {Name: "JDK_JAVA_OPTIONS", Value: "-Xlog:gc"}, {Name: "JDK_JAVA_OPTIONS", Value: "-XX:+CrashOnOutOfMemoryError"},
		{Name: "JDK_JAVA_OPTIONS", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
	})
	return append(env, rapid.SliceOfN(some, 0, 5).Draw(t, "environment")...)
}

func ports(t *rapid.T, role spark.Role) (all []corev1.ContainerPort) {
	declared := []corev1.ContainerPort{{Name: "driver-rpc-port", ContainerPort: 7078}, {Name: "blockmanager", ContainerPort: 7079}, {Name: "spark-ui", ContainerPort: 4040}}
	if role == spark.Executor {
		declared = declared[1:2]
	}
	for _, port := range declared {
		if often(t, "port "+port.Name) {
			port.Protocol = corev1.ProtocolTCP
			all = append(all, port)
		}
	}
	return all
}

func sidecar(t *rapid.T, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "sidecar"}
	if sometimes(t, name+" has a port") {
		c.Ports = []corev1.ContainerPort{{ContainerPort: rapid.Int32Range(20000, 20007).Draw(t, "port"), Protocol: corev1.ProtocolTCP}}
	}
	if sometimes(t, name+" has a probe") {
		c.LivenessProbe = probe(t, policy.Liveness)
	}
	return c
}

func probe(t *rapid.T, name policy.ProbeName) *corev1.Probe {
	port := intstr.FromString(rapid.SampledFrom([]string{"spark-ui", "driver-rpc-port", "blockmanager", "missing"}).Draw(t, "port"))
	if sometimes(t, "by number") {
		port = intstr.FromInt32(rapid.SampledFrom([]int32{4040, 7078, 7079, 8080}).Draw(t, "number"))
	}
	p := rapid.SampledFrom([]corev1.Probe{
		{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}},
		{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}},
		{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: port, Path: "/"}}},
		{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 15002}}},
	}).Draw(t, "probe")
	p.InitialDelaySeconds = rapid.Int32Range(0, 1000).Draw(t, "delay")
	p.FailureThreshold = rapid.Int32Range(0, 1000).Draw(t, "threshold")
	if name == policy.Readiness {
		p.SuccessThreshold = rapid.Int32Range(0, 3).Draw(t, "successes")
	}
	return p.DeepCopy()
}

func sometimes(t *rapid.T, what string) bool { return rapid.IntRange(0, 4).Draw(t, what) == 4 }
func often(t *rapid.T, what string) bool     { return rapid.IntRange(0, 4).Draw(t, what) < 4 }

// Rules draws policies, valid and invalid. Each has one rule for drivers and one for
// executors, with a probe each.
func Rules() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return "rules:\n" + rule(t, spark.Driver) + rule(t, spark.Executor)
	})
}

func rule(t *rapid.T, role spark.Role) string {
	number := rapid.SampledFrom([]string{"-1", "0", "1", "2", "30", "2147483647", "2147483648"})
	port := rapid.SampledFrom([]string{"spark-ui", "driver-rpc-port", "blockmanager", "4040", "0", "70000", "Spark UI", `"8080"`}).Draw(t, "port")
	handlers := []string{
		"tcpSocket: {port: " + port + "}", "httpGet: {port: " + port + "}", "httpGet: {port: " + port + ", scheme: HTTPS, path: a b, httpHeaders: [{name: X-A, value: b}]}",
		"exec: {command: [check, $(port:spark-ui)]}", "exec: {command: []}", "grpc: {port: 15002}", "grpc: {port: 15002, service: a}",
	}
	name := rapid.SampledFrom(policy.ProbeNames).Draw(t, "probe")
	probe := []string{rapid.SampledFrom(handlers).Draw(t, "handler")}
	for _, field := range []string{"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold", "terminationGracePeriodSeconds"} {
		if sometimes(t, field) {
			probe = append(probe, field+": "+number.Draw(t, field))
		}
	}
	return fmt.Sprintf("- name: r\n  match: {role: %s}\n  acceptEarlyEnd: true\n  probes: {%s: {%s}}\n", role, name, strings.Join(probe, ", ")) +
		map[spark.Role]string{spark.Driver: "  acceptUnreadyDriver: true\n"}[role]
}
