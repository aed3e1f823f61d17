package recorder

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// strip takes everything from a pod that the recorder does not read, so that a
// cluster's Spark pods fit into memory: some 4 kB remain of each. Stripping again
// changes nothing. It is a cache.TransformFunc.
func strip(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	sparks := spark.Pod{}
	if pod, err := spark.PodOf(p); err == nil {
		sparks = pod
	}
	role := spark.Role(p.Labels[spark.RoleLabel])
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion,
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp, DeletionGracePeriodSeconds: p.DeletionGracePeriodSeconds,
			Labels: p.Labels, Annotations: stripAnnotations(p.Annotations), OwnerReferences: p.OwnerReferences,
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                 p.Spec.RestartPolicy,
			TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
			Containers:                    stripContainers(p.Spec.Containers, sparks),
			Volumes:                       append(stripVolumes(p), stripMemoryVolumes(sparks)...),
			Resources:                     stripRequirements(p.Spec.Resources),
		},
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, Reason: p.Status.Reason, Message: p.Status.Message, Resources: stripRequirements(p.Status.Resources),
			Conditions:            stripConditions(p.Status.Conditions),
			InitContainerStatuses: stripStatuses(role, p.Status.InitContainerStatuses),
			ContainerStatuses:     stripStatuses(role, p.Status.ContainerStatuses),
		},
	}, nil
}

func stripAnnotations(all map[string]string) map[string]string {
	kept := map[string]string{}
	for key, value := range all {
		switch {
		case annotations.IsRecord(key), key == annotations.Inject:
			kept[key] = value
		case key == annotations.Injected:
			kept[key] = "" // that it is there is enough, but for one thing
			if oom.Injects(value, "liveness") {
				kept[key] = `{"set":["livenessProbe"]}`
			}
		case key == oom.ExitException:
			kept[key] = cmp.Or(stripText(spark.Driver, value), "not of memory") // that it is there is said, too
		}
	}
	return kept
}

// stripText keeps of a long text what package oom understands.
func stripText(role spark.Role, text string) string { return oom.WordsOf(role, text).String() }

// environment that package spark reads.
var environment = []string{"SPARK_DRIVER_BIND_ADDRESS", "SPARK_EXECUTOR_ID", "SPARK_EXECUTOR_MEMORY", "SPARK_EXECUTOR_CORES"}

func stripContainers(all []corev1.Container, sparks spark.Pod) []corev1.Container {
	kept := make([]corev1.Container, len(all))
	for i, c := range all {
		kept[i].Name = c.Name
		if sparks.Pod == nil || i != sparks.Index {
			continue
		}
		kept[i].Resources = *stripRequirements(&c.Resources)
		kept[i].LivenessProbe, kept[i].StartupProbe = stripProbe(c.LivenessProbe), stripProbe(c.StartupProbe)
		kept[i].Args = sparks.KnownArgs()
		kept[i].VolumeMounts = stripMounts(sparks)
		kept[i].RestartPolicy, kept[i].RestartPolicyRules = c.RestartPolicy, c.RestartPolicyRules
		for _, e := range c.Env {
			if value, ok := stripEnv(e, len(kept[i].VolumeMounts) > 0); ok {
				kept[i].Env = append(kept[i].Env, corev1.EnvVar{Name: e.Name, Value: value})
			}
		}
	}
	return kept
}

// stripEnv keeps what is read: of the JVM's options only those by which it ends
// itself, and the local directories if one of them lies in memory.
func stripEnv(e corev1.EnvVar, inMemory bool) (value string, keep bool) {
	switch {
	case slices.Contains(environment, e.Name), e.Name == spark.LocalDirsEnv && inMemory:
		return e.Value, true
	case strings.HasPrefix(e.Name, spark.JavaOptionEnvPrefix), slices.Contains(oom.JavaOptionsEnv, e.Name):
		value = oom.EndsItself(e.Value)
		return value, value != ""
	}
	return "", false
}

// stripMounts keeps those of local directories in memory.
func stripMounts(sparks spark.Pod) (kept []corev1.VolumeMount) {
	dirs := sparks.LocalDirsInMemory()
	for _, m := range sparks.Container().VolumeMounts {
		if slices.Contains(dirs, m.MountPath) {
			kept = append(kept, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath})
		}
	}
	return kept
}

// stripMemoryVolumes keeps those that stripMounts keeps.
func stripMemoryVolumes(sparks spark.Pod) (kept []corev1.Volume) {
	if sparks.Pod == nil {
		return nil
	}
	mounted := stripMounts(sparks)
	for _, v := range sparks.Spec.Volumes {
		if slices.ContainsFunc(mounted, func(m corev1.VolumeMount) bool { return m.Name == v.Name }) {
			kept = append(kept, corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: v.EmptyDir.Medium}}})
		}
	}
	return kept
}

func stripRequirements(r *corev1.ResourceRequirements) *corev1.ResourceRequirements {
	if r == nil {
		return nil
	}
	return &corev1.ResourceRequirements{Limits: stripResources(r.Limits), Requests: stripResources(r.Requests)}
}

// memories are shared by the pods that ask for the same: such a list takes more
// room than the rest of a container.
var memories = lru.New(1024)

func stripResources(all corev1.ResourceList) corev1.ResourceList {
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

func stripProbe(p *corev1.Probe) *corev1.Probe {
	if p == nil {
		return nil
	}
	return &corev1.Probe{PeriodSeconds: p.PeriodSeconds, FailureThreshold: p.FailureThreshold}
}

func stripVolumes(p *corev1.Pod) []corev1.Volume {
	name := spark.Pod{Pod: p}.ConfigMap()
	if name == "" {
		return nil
	}
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			source := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: v.ConfigMap.LocalObjectReference}}
			return []corev1.Volume{{Name: v.Name, VolumeSource: source}}
		}
	}
	return nil
}

// stripConditions keeps what tells of disruptions, and when the pod ended.
func stripConditions(all []corev1.PodCondition) (kept []corev1.PodCondition) {
	for _, c := range all {
		if c.Type == corev1.DisruptionTarget || c.Type == corev1.PodReady {
			kept = append(kept, c)
		}
	}
	return kept
}

func stripStatuses(role spark.Role, all []corev1.ContainerStatus) []corev1.ContainerStatus {
	kept := make([]corev1.ContainerStatus, len(all))
	for i, s := range all {
		kept[i] = corev1.ContainerStatus{Name: s.Name, RestartCount: s.RestartCount, Resources: stripRequirements(s.Resources)}
		if last := s.LastTerminationState.Terminated; last != nil && last.ContainerID == s.ContainerID {
			kept[i].ContainerID = s.ContainerID
		}
		kept[i].State.Terminated = stripTermination(role, s.State.Terminated)
		kept[i].LastTerminationState.Terminated = stripTermination(role, s.LastTerminationState.Terminated)
	}
	return kept
}

func stripTermination(role spark.Role, t *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	if t == nil {
		return nil
	}
	return &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Reason: t.Reason, StartedAt: t.StartedAt, FinishedAt: t.FinishedAt, ContainerID: t.ContainerID, Message: stripText(role, t.Message)}
}
