package patches

import (
	"slices"

	"gomodules.xyz/jsonpatch/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// annotated is an object that is being changed: its metadata, the operations so far,
// and the stamps that it has in the end.
type annotated struct {
	meta       *metav1.ObjectMeta
	operations []jsonpatch.Operation
	stamps     []stamp
}

type stamp struct{ key, value string }

func (a *annotated) stamp(key, value string) { a.stamps = append(a.stamps, stamp{key, value}) }

// writeStamps gives the object these stamps, and removes all else that only
// spark-vitals writes: the record of another pod that this one is a copy of, and
// earlier stamps. It leaves out a stamp if the user's own annotations leave no space
// for it.
func (a *annotated) writeStamps() {
	fitting := a.fittingStamps()
	for _, key := range slices.Concat(annotations.Record, annotations.Stamps) {
		_, exists := a.meta.Annotations[key]
		if _, kept := fitting[key]; exists && !kept {
			delete(a.meta.Annotations, key)
			a.operations = append(a.operations, jsonpatch.NewOperation("remove", annotationPath(key), nil))
		}
	}
	if a.meta.Annotations == nil && len(fitting) > 0 {
		a.meta.Annotations = fitting
		a.operations = append(a.operations, jsonpatch.NewOperation("add", "/metadata/annotations", fitting))
		return
	}
	for _, s := range a.stamps {
		value, fits := fitting[s.key]
		if old, exists := a.meta.Annotations[s.key]; fits && (!exists || old != value) {
			a.meta.Annotations[s.key] = value
			a.operations = append(a.operations, jsonpatch.NewOperation("add", annotationPath(s.key), value))
		}
	}
}

func (a *annotated) fittingStamps() map[string]string {
	free := annotations.MaxBytes
	for key, value := range a.meta.Annotations {
		if !isOurs(key) {
			free -= len(key) + len(value)
		}
	}
	fitting := map[string]string{}
	for _, s := range a.stamps {
		if size := len(s.key) + len(s.value); size <= free {
			free -= size
			fitting[s.key] = s.value
		}
	}
	return fitting
}

func isOurs(key string) bool { return annotations.IsStamp(key) || annotations.IsRecord(key) }

func annotationPath(key string) string { return "/metadata/annotations/" + pointer.Replace(key) }
