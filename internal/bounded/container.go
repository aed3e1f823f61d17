package bounded

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/spark"
)

// container returns what is kept of Spark's container.
func container(pod spark.Pod, c *corev1.Container) corev1.Container {
	kept := corev1.Container{
		Name: Name(c.Name), Args: arguments(pod), Env: environment(c.Env), VolumeMounts: mounts(pod),
		LivenessProbe: probe(c.LivenessProbe), StartupProbe: probe(c.StartupProbe),
		RestartPolicy: c.RestartPolicy,
	}
	if r := resources(&c.Resources); r != nil {
		kept.Resources = *r
	}
	if len(c.RestartPolicyRules) > 0 { // that there are some is what is read
		kept.RestartPolicyRules = make([]corev1.ContainerRestartRule, 1)
	}
	if port, ok := pod.Port(spark.UIPort); ok {
		kept.Ports = []corev1.ContainerPort{{Name: spark.UIPort, ContainerPort: port}}
	}
	return kept
}

// variables are the variables that are read.
var variables = []string{
	"SPARK_DRIVER_BIND_ADDRESS", "SPARK_EXECUTOR_ID", "SPARK_EXECUTOR_MEMORY", "SPARK_EXECUTOR_CORES",
	"SPARK_DRIVER_MEMORY",
	"SPARK_APPLICATION_ID", spark.LocalDirsEnv,
}

// environment keeps the last of each variable that is read, because that one counts. Of
// JVM options it keeps those that say what the JVM does when it runs out of memory.
func environment(all []corev1.EnvVar) (kept []corev1.EnvVar) {
	options := 0
	for i, e := range all {
		switch {
		case slices.Contains(variables, e.Name):
			if slices.ContainsFunc(all[i+1:], func(later corev1.EnvVar) bool { return later.Name == e.Name }) {
				continue
			}
		case strings.Contains(e.Value, "OutOfMemoryError") && options < maxOptions:
			options++
		default:
			continue
		}
		one := corev1.EnvVar{Name: Name(e.Name), Value: around(e.Value, "OutOfMemoryError")}
		if e.ValueFrom != nil { // that it is from elsewhere is what is read
			one.ValueFrom = &corev1.EnvVarSource{}
		}
		kept = append(kept, one)
	}
	return kept
}

// around returns a text, or the part around a word of a long one.
func around(text, word string) string {
	if i := strings.Index(text, word); len(text) > maxText && i > maxText/2 {
		text = text[i-maxText/2:]
	}
	return strings.ToValidUTF8(Text(text), "")
}

// arguments returns the arguments that package spark reads.
func arguments(pod spark.Pod) (kept []string) {
	for _, argument := range pod.KnownArgs() {
		kept = append(kept, Text(argument))
	}
	return kept
}

// mounts returns the mounts of local directories in memory.
func mounts(pod spark.Pod) (kept []corev1.VolumeMount) {
	dirs := pod.LocalDirsInMemory()
	for _, m := range pod.Container().VolumeMounts {
		if slices.Contains(dirs, m.MountPath) && len(kept) < maxOthers {
			kept = append(kept, corev1.VolumeMount{Name: Name(m.Name), MountPath: Name(m.MountPath)})
		}
	}
	return kept
}

// memories are shared by pods that ask for the same: such a list takes more space than
// the rest of a container.
var memories = lru.New(1024)

func memory(all corev1.ResourceList) corev1.ResourceList {
	memory, ok := all[corev1.ResourceMemory]
	if !ok {
		return nil
	}
	size := memory.String()
	if shared, ok := memories.Get(size); ok {
		return shared.(corev1.ResourceList)
	}
	list := corev1.ResourceList{corev1.ResourceMemory: memory}
	memories.Add(size, list)
	return list
}

func resources(r *corev1.ResourceRequirements) *corev1.ResourceRequirements {
	if r == nil {
		return nil
	}
	return &corev1.ResourceRequirements{Limits: memory(r.Limits), Requests: memory(r.Requests)}
}

func probe(p *corev1.Probe) *corev1.Probe {
	if p == nil {
		return nil
	}
	return &corev1.Probe{PeriodSeconds: p.PeriodSeconds, FailureThreshold: p.FailureThreshold}
}

// statuses returns the status of Spark's container, and of others that died.
func (r Reading) statuses(role spark.Role, sparks *corev1.Container, all []corev1.ContainerStatus) (kept []corev1.ContainerStatus) {
	others := 0
	for i := range all {
		s := &all[i]
		now, last := s.State.Terminated, s.LastTerminationState.Terminated
		if s.Name != sparks.Name {
			if !died(now) && !died(last) || others == maxStatuses {
				continue
			}
			others++
		}
		one := corev1.ContainerStatus{Name: Name(s.Name), RestartCount: s.RestartCount}
		one.State.Terminated, one.LastTerminationState.Terminated = r.termination(role, now), r.termination(role, last)
		if last != nil && last.ContainerID == s.ContainerID {
			one.ContainerID = Name(s.ContainerID)
		}
		if s.Name == sparks.Name {
			one.State.Running, one.Ready = s.State.Running, s.Ready
			if in := resources(s.Resources); in != nil && (!in.Limits.Memory().Equal(*sparks.Resources.Limits.Memory()) || !in.Requests.Memory().Equal(*sparks.Resources.Requests.Memory())) {
				one.Resources = in // it was resized
			}
		}
		kept = append(kept, one)
	}
	return kept
}

func died(t *corev1.ContainerStateTerminated) bool {
	return t != nil && (t.ExitCode != 0 || t.Reason != "Completed")
}

func (r Reading) termination(role spark.Role, t *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	if t == nil {
		return nil
	}
	kept := &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Reason: Name(t.Reason), StartedAt: t.StartedAt, FinishedAt: t.FinishedAt, ContainerID: Name(t.ContainerID)}
	switch {
	case r.Message == nil:
	case t.Reason == "StartError" || t.Reason == "ContainerCannotRun": // the runtime's own words
		kept.Message = Text(t.Message)
	default:
		kept.Message = Text(r.Message(role, t.Message))
	}
	return kept
}

func uid(of types.UID) types.UID { return types.UID(Name(string(of))) }
