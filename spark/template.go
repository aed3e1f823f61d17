package spark

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// FromTemplate is what Spark makes of a pod template
// (spark.kubernetes.driver.podTemplateFile), as far as this package looks at it:
// the labels, and on Spark's container the ports and the environment that tell
// it. Without a container of Spark's name it is the template's first, as in
// KubernetesUtils.scala without podTemplateContainerName. The template is not
// changed.
func FromTemplate(template *corev1.Pod, role Role) *corev1.Pod {
	pod := template.DeepCopy()
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[RoleLabel] = string(role)
	if pod.Labels[ApplicationLabel] == "" {
		pod.Labels[ApplicationLabel] = "spark-00000000000000000000000000000000"
	}
	made := madeBySpark[role]
	if len(pod.Spec.Containers) == 0 {
		pod.Spec.Containers = []corev1.Container{{Name: made.Name}}
	}
	i, _ := containerIndex(pod.Spec.Containers, role)
	c := &pod.Spec.Containers[i]
	for _, port := range made.Ports {
		if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.Name }) {
			c.Ports = append(c.Ports, port)
		}
	}
	for _, env := range made.Env {
		if !hasEnv(c, env.Name) {
			c.Env = append(c.Env, env)
		}
	}
	return pod
}

// The containers of BasicDriverFeatureStep.scala and BasicExecutorFeatureStep.scala.
var madeBySpark = map[Role]corev1.Container{
	Driver: {
		Name: DriverContainer,
		Env:  []corev1.EnvVar{{Name: driverEnv, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}},
		Ports: []corev1.ContainerPort{
			{Name: RPCPort, ContainerPort: 7078, Protocol: corev1.ProtocolTCP},
			{Name: BlockManagerPort, ContainerPort: 7079, Protocol: corev1.ProtocolTCP},
			{Name: UIPort, ContainerPort: 4040, Protocol: corev1.ProtocolTCP},
		},
	},
	Executor: {
		Name:  ExecutorContainer,
		Env:   []corev1.EnvVar{{Name: executorEnv, Value: "1"}},
		Ports: []corev1.ContainerPort{{Name: BlockManagerPort, ContainerPort: 7079, Protocol: corev1.ProtocolTCP}},
	},
}
