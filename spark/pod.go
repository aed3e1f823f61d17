package spark

import (
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Role is what a pod does in its Spark application.
type Role string

// The roles, as the label spark-role spells them.
const (
	Driver   Role = "driver"
	Executor Role = "executor"
)

// The reasons why a pod is not one of Spark's.
var (
	ErrNoRole      = errors.New("the pod has no label spark-role=driver or spark-role=executor")
	ErrNoContainer = errors.New("no container of the pod is Spark's: none has Spark's environment, Spark's first argument or Spark's name")
)

// Pod is a pod that Spark made. The zero Pod is not valid; make one with [PodOf].
type Pod struct {
	*corev1.Pod
	Role Role
	// Index is the index of Spark's container in spec.containers. It is rarely 0 if a
	// pod template has sidecars, because Spark puts its own last.
	Index int
}

// PodOf reads a pod that Spark made. It returns [ErrNoRole] or [ErrNoContainer] for
// another pod. A pod that only has the label is not Spark's.
func PodOf(pod *corev1.Pod) (Pod, error) {
	role := Role(pod.Labels[RoleLabel])
	if role != Driver && role != Executor {
		return Pod{}, ErrNoRole
	}
	index, ok := containerIndex(pod.Spec.Containers, role)
	if !ok {
		return Pod{}, ErrNoContainer
	}
	return Pod{Pod: pod, Role: role, Index: index}, nil
}

// containerIndex finds Spark's container by three signs, the surest first: the
// environment that only Spark sets, the first argument, and Spark's default name. The
// name comes last because Spark takes the first container of a pod template and keeps
// its name, also if another container has the default name. Each sign decides among the
// containers that the signs before it have left; a sign that none of them has decides
// nothing.
func containerIndex(containers []corev1.Container, role Role) (int, bool) {
	name, env := DriverContainer, driverEnv
	if role == Executor {
		name, env = ExecutorContainer, executorEnv
	}
	signs := []func(*corev1.Container) bool{
		func(c *corev1.Container) bool { return hasEnv(c, env) },
		func(c *corev1.Container) bool { return len(c.Args) > 0 && c.Args[0] == string(role) },
		func(c *corev1.Container) bool { return c.Name == name },
	}
	candidates, known := make([]int, len(containers)), false
	for i := range containers {
		candidates[i] = i
	}
	for _, sign := range signs {
		var having []int
		for _, i := range candidates {
			if sign(&containers[i]) {
				having = append(having, i)
			}
		}
		if len(having) > 0 {
			candidates, known = having, true
		}
	}
	if !known || len(candidates) != 1 {
		return 0, false
	}
	return candidates[0], true
}

// Container returns the container that Spark runs in.
func (p Pod) Container() *corev1.Container { return &p.Spec.Containers[p.Index] }

// LastChange returns when one of the pod's conditions changed last, or else when the
// pod was created. It leaves out one condition, because that one is about a death and
// shows nothing of it.
func (p Pod) LastChange(but corev1.PodConditionType) metav1.Time {
	at := p.CreationTimestamp
	for _, c := range p.Status.Conditions {
		if c.Type != but && c.LastTransitionTime.After(at.Time) {
			at = c.LastTransitionTime
		}
	}
	return at
}

// ContainerStatus returns the status of Spark's container, or nil if the kubelet
// reports none.
func (p Pod) ContainerStatus() *corev1.ContainerStatus {
	for i := range p.Status.ContainerStatuses {
		if s := &p.Status.ContainerStatuses[i]; s.Name == p.Container().Name {
			return s
		}
	}
	return nil
}

// End is the end of Spark's container.
type End struct {
	At      metav1.Time // zero if the kubelet did not report the time
	Success bool
}

// End returns how Spark's container ended. ok is true if the pod's status shows that it
// terminated, or that it never ran and never will: the phase is Failed, because the
// kubelet refused the pod or its node was removed. Otherwise the phase does not matter:
// it changes one to two seconds later, and not while a sidecar runs. ok is false
//   - while the container runs, whatever the pod's phase or annotations say. A lost
//     node reports nothing, and its container may still run;
//   - if the pod is deleted and its container never ran.
func (p Pod) End() (end End, ok bool) {
	var state corev1.ContainerState
	if status := p.ContainerStatus(); status != nil {
		state = status.State
	}
	if t := state.Terminated; t != nil {
		return End{At: t.FinishedAt, Success: t.ExitCode == 0}, true
	}
	return end, state.Running == nil && p.Status.Phase == corev1.PodFailed && p.DeletionTimestamp == nil
}

// IsAlive reports whether Spark's container runs or may still start, and nobody has asked
// for its end.
func (p Pod) IsAlive() bool {
	_, ended := p.End()
	return !ended && p.DeletionTimestamp == nil
}

// Restarts reports whether the container may be started again after it ended. Spark
// never asks for that.
func (p Pod) Restarts() bool {
	c := p.Container()
	return p.Spec.RestartPolicy != corev1.RestartPolicyNever || c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0
}

// Env returns the literal value of an environment variable of Spark's container. If
// several entries have the name, the last counts, as for the kubelet. ok is false if
// there is none or its value comes from elsewhere (valueFrom).
func (p Pod) Env(name string) (value string, ok bool) {
	for _, e := range slices.Backward(p.Container().Env) {
		if e.Name == name {
			return e.Value, e.ValueFrom == nil
		}
	}
	return "", false
}

// JavaOptions returns the JVM options that Spark passes to an executor in environment
// variables SPARK_JAVA_OPT_n. They have no order, and neither has Spark's own list.
func (p Pod) JavaOptions() []string {
	var options []string
	for _, e := range p.Container().Env {
		if strings.HasPrefix(e.Name, JavaOptionEnvPrefix) {
			options = append(options, e.Value)
		}
	}
	return options
}

func hasEnv(c *corev1.Container, name string) bool {
	return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
}
