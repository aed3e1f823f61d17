package spark

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Template is how Spark reads a pod template
// (spark.kubernetes.driver.podTemplateFile).
type Template struct {
	Role Role
	// Container is podTemplateContainerName; without it, and without a container
	// of Spark's name, Spark takes the template's first (KubernetesUtils.scala).
	Container string
	// Version of Spark, and MainClass of a driver; "" where they are not known.
	Version, MainClass string
}

// Complete is what Spark makes of a template, as far as this package looks at it:
// the labels, and on Spark's container the arguments, ports and environment that
// tell it. The given pod is not changed.
func (t Template) Complete(template *corev1.Pod) *corev1.Pod {
	pod := template.DeepCopy()
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[RoleLabel] = string(t.Role)
	if pod.Labels[ApplicationLabel] == "" {
		pod.Labels[ApplicationLabel] = "spark-00000000000000000000000000000000"
	}
	if t.Version != "" {
		pod.Labels[VersionLabel] = t.Version
	}
	made := madeBySpark[t.Role]
	if len(pod.Spec.Containers) == 0 {
		pod.Spec.Containers = []corev1.Container{{Name: made.Name}}
	}
	t.completeContainer(t.container(pod), made)
	return pod
}

func (t Template) container(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == t.Container {
			return &pod.Spec.Containers[i]
		}
	}
	i, _ := containerIndex(pod.Spec.Containers, t.Role)
	return &pod.Spec.Containers[i]
}

func (t Template) completeContainer(c *corev1.Container, made corev1.Container) {
	c.Args = []string{string(t.Role)}
	if t.MainClass != "" {
		c.Args = append(c.Args, "--class", t.MainClass)
	}
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
