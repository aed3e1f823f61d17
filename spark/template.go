package spark

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Template describes how Spark reads a pod template
// (spark.kubernetes.driver.podTemplateFile).
type Template struct {
	Role Role
	// Container is spark.kubernetes.<role>.podTemplateContainerName. Spark takes
	// the first container of the template if this is not set or if no container has
	// this name (KubernetesUtils.scala).
	Container string
	// Version is Spark's, and MainClass is a driver's; "" if not known.
	Version, MainClass string
}

// Complete returns the pod that Spark makes of a template, as far as this package
// reads it: the labels, and the arguments, ports and environment of Spark's container.
// It does not change the given pod.
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
	i, _ := t.index(pod.Spec.Containers)
	t.completeContainer(&pod.Spec.Containers[i], made)
	return pod
}

// Doubt returns which container of a template Spark will take, if that may not be the
// one that the user means, and which setting decides it. It returns "" if there is no
// doubt.
func (t Template) Doubt(template *corev1.Pod) string {
	containers := template.Spec.Containers
	if len(containers) == 0 {
		return t.doubtName("the template has no container, so Spark makes one of its own")
	}
	i, named := t.index(containers)
	takes := fmt.Sprintf("Spark takes the first container, %q", containers[i].Name)
	switch {
	case named:
		return ""
	case t.Container != "":
		return t.doubtName(takes)
	case len(containers) == 1 || containers[i].Name == madeBySpark[t.Role].Name:
		return ""
	}
	return fmt.Sprintf("%s; if another container is Spark's, name it in %s", takes, t.setting())
}

func (t Template) doubtName(takes string) string {
	if t.Container == "" {
		return ""
	}
	return fmt.Sprintf("no container of the template is named %q, which %s asks for; %s", t.Container, t.setting(), takes)
}

func (t Template) setting() string {
	return fmt.Sprintf("spark.kubernetes.%s.podTemplateContainerName", t.Role)
}

// index returns the index of the container that Spark takes, and whether it is the one
// that is named.
func (t Template) index(containers []corev1.Container) (i int, named bool) {
	i = slices.IndexFunc(containers, func(c corev1.Container) bool { return t.Container != "" && c.Name == t.Container })
	return max(i, 0), i >= 0
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

// madeBySpark are the containers of BasicDriverFeatureStep.scala and
// BasicExecutorFeatureStep.scala.
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
