// Package bounded decides what the jobs that watch pods keep of a pod in memory.
// Anyone who may create pods chooses their size, up to 1.5 MB each, in any namespace.
// So every field that is kept has a bound. Of an ordinary pod it keeps everything that
// packages spark, oom, gateway and stall read.
package bounded

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// The bounds. Pods that Spark makes stay far below them.
const (
	maxText     = 1 << 10 // bytes of a value
	maxName     = 253     // bytes of a name, as the API server allows for most objects
	maxLabels   = 32
	allLabels   = 4 << 10 // bytes of all labels
	maxOwners   = 4
	maxStatuses = 8 // of containers that ended, beside Spark's
	maxOptions  = 4 // variables with options for the JVM that runs out of memory
	maxOthers   = 8 // of anything else that is a list
)

// Reading is what a job reads of a pod in addition to what package spark reads.
type Reading struct {
	// Wants reports whether more than the metadata and the phase of a pod is read. If
	// it is nil, all is read.
	Wants func(*corev1.Pod) bool
	// Annotation returns what is kept of an annotation, if anything is.
	Annotation func(role spark.Role, key, value string) (kept string, ok bool)
	// Condition is kept with its reason and message, besides those that are always
	// kept. "" is none.
	Condition corev1.PodConditionType
	// Message returns what is kept of a termination message; nil keeps nothing.
	Message func(role spark.Role, text string) string
}

// Pod returns what is kept of a pod: some 3 kB of an ordinary one. It shares nothing
// large with the pod. Keeping it again changes nothing.
func (r Reading) Pod(p *corev1.Pod) *corev1.Pod {
	role := spark.Role(p.Labels[spark.RoleLabel])
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name(p.Name), Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion,
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp, DeletionGracePeriodSeconds: p.DeletionGracePeriodSeconds,
			Labels: labels(p.Labels), Annotations: r.annotations(role, p.Annotations), OwnerReferences: owners(p.OwnerReferences),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}
	pod, err := spark.PodOf(p)
	if err != nil || r.Wants != nil && !r.Wants(p) {
		return kept
	}
	sparks := pod.Container()
	kept.Spec = corev1.PodSpec{
		RestartPolicy:                 p.Spec.RestartPolicy,
		TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
		HostNetwork:                   p.Spec.HostNetwork,
		Containers:                    []corev1.Container{container(pod, sparks)},
		Resources:                     resources(p.Spec.Resources),
		Volumes:                       volumes(pod),
	}
	status := &p.Status
	kept.Status = corev1.PodStatus{
		Phase: status.Phase, Reason: Text(status.Reason), Message: Text(status.Message),
		PodIP: Name(status.PodIP), PodIPs: addresses(status.PodIPs), HostIP: Name(status.HostIP), StartTime: status.StartTime,
		Resources:             resources(status.Resources),
		Conditions:            r.conditions(status.Conditions),
		InitContainerStatuses: r.statuses(role, sparks, status.InitContainerStatuses),
		ContainerStatuses:     r.statuses(role, sparks, status.ContainerStatuses),
	}
	return kept
}

// Transform is a cache.TransformFunc that keeps of a pod what is read.
func (r Reading) Transform(object any) (any, error) {
	if p, ok := object.(*corev1.Pod); ok {
		return r.Pod(p), nil
	}
	return object, nil
}

// Text returns a text, or the beginning of a long one.
func Text(text string) string { return Cut(text, maxText) }

// Name returns a name, or the beginning of a text that is too long for one.
func Name(name string) string { return Cut(name, maxName) }

// Printable removes from foreign text everything that a terminal would obey.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// Cut returns a text, or its beginning if it is longer than the limit.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:limit]), "")
}

// labels returns all labels of a pod. If there are too many, it keeps first those that
// a submitter or Spark may have written.
func labels(all map[string]string) map[string]string {
	size := 0
	for key, value := range all {
		size += len(key) + len(value)
	}
	if len(all) <= maxLabels && size <= allLabels {
		return all
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if sparks(a) != sparks(b) {
			return map[bool]int{true: -1, false: 1}[sparks(a)]
		}
		return strings.Compare(a, b)
	})
	kept, size := map[string]string{}, 0
	for _, key := range keys[:min(len(keys), maxLabels)] {
		if size += len(key) + len(all[key]); size > allLabels {
			break
		}
		kept[key] = all[key]
	}
	return kept
}

func sparks(label string) bool {
	return strings.Contains(label, "spark") || strings.Contains(label, "kyuubi")
}

func (r Reading) annotations(role spark.Role, all map[string]string) map[string]string {
	kept := map[string]string{}
	for key, value := range all {
		if value, ok := r.Annotation(role, key, value); ok {
			kept[key] = value
		}
	}
	return kept
}

// owners keeps some owners, among them the one that controls the pod.
func owners(all []metav1.OwnerReference) (kept []metav1.OwnerReference) {
	controls := slices.IndexFunc(all, func(o metav1.OwnerReference) bool { return o.Controller != nil && *o.Controller })
	for i, o := range all {
		if i == controls || len(kept) < maxOwners-1 || len(kept) < maxOwners && controls < i {
			o.APIVersion, o.Kind, o.Name, o.UID = Name(o.APIVersion), Name(o.Kind), Name(o.Name), uid(o.UID)
			kept = append(kept, o)
		}
	}
	return kept
}

// addresses returns one address of each family.
func addresses(all []corev1.PodIP) (kept []corev1.PodIP) {
	for _, ip := range all[:min(len(all), maxOthers)] {
		kept = append(kept, corev1.PodIP{IP: Name(ip.IP)})
	}
	return kept
}

// volumes returns the volume of Spark's ConfigMap, those in memory, which count as the
// container's, and claimed ones.
func volumes(pod spark.Pod) (kept []corev1.Volume) {
	name := pod.ConfigMap()
	for _, v := range pod.Spec.Volumes {
		var source corev1.VolumeSource
		switch {
		case v.ConfigMap != nil && name != "" && v.ConfigMap.Name == name:
			name = ""
			source.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: Name(v.ConfigMap.Name)}}
		case len(kept) >= maxOthers:
			continue
		case v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory:
			source.EmptyDir = &corev1.EmptyDirVolumeSource{Medium: v.EmptyDir.Medium, SizeLimit: v.EmptyDir.SizeLimit}
		case v.PersistentVolumeClaim != nil: // that there is one is what is read
			source.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{}
		case v.Ephemeral != nil:
			source.Ephemeral = &corev1.EphemeralVolumeSource{}
		default:
			continue
		}
		kept = append(kept, corev1.Volume{Name: Name(v.Name), VolumeSource: source})
	}
	return kept
}

// conditions returns the conditions about disruptions and about when the pod was
// scheduled, the one that changed last, and the reading's own.
func (r Reading) conditions(all []corev1.PodCondition) (kept []corev1.PodCondition) {
	last, own := -1, -1
	isOwn := func(c corev1.PodCondition) bool { return r.Condition != "" && c.Type == r.Condition }
	for i, c := range all {
		switch {
		case isOwn(c):
			if own < 0 {
				own = i
			}
		case last < 0 || c.LastTransitionTime.After(all[last].LastTransitionTime.Time):
			last = i
		}
	}
	for i, c := range all {
		read := c.Type == corev1.DisruptionTarget || c.Type == corev1.PodReady || c.Type == corev1.PodScheduled
		if isOwn(c) || i != last && (!read || len(kept) >= maxOthers) {
			continue
		}
		one := condition(c)
		if c.Type == corev1.DisruptionTarget {
			one.Reason, one.Message = Text(c.Reason), Text(c.Message)
		}
		kept = append(kept, one)
	}
	if own >= 0 {
		one := condition(all[own])
		one.Reason, one.Message = Name(all[own].Reason), Text(all[own].Message)
		kept = append(kept, one)
	}
	return kept
}

func condition(c corev1.PodCondition) corev1.PodCondition {
	return corev1.PodCondition{Type: corev1.PodConditionType(Name(string(c.Type))), Status: corev1.ConditionStatus(Name(string(c.Status))), LastTransitionTime: c.LastTransitionTime}
}
