package releaser

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// A journal holds the releases that are proven and not finished, in a ConfigMap
// beside the releaser: one entry, some 500 bytes, for each pod's UID. It is not
// on the pod, which somebody else may write to or delete.
type journal struct {
	api  client.Client
	name types.NamespacedName
}

// write down a release, before its first change.
func (j journal) write(ctx context.Context, uid types.UID, r *gateway.Release) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	entry := map[string]string{string(uid): string(text)}
	err = j.api.Patch(ctx, j.object(), mergePatch(map[string]any{"data": entry}))
	if apierrors.IsNotFound(err) {
		first := j.object()
		first.Data = entry
		err = j.api.Create(ctx, first)
	}
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// remove a release, if it was written down.
func (j journal) remove(ctx context.Context, uid types.UID, r *gateway.Release) error {
	if len(r.Found) == 0 {
		return nil
	}
	err := j.api.Patch(ctx, j.object(), mergePatch(map[string]any{"data": map[string]any{string(uid): nil}}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// read what is written down. An entry that is none of ours is told and left.
func (j journal) read(ctx context.Context, log *slog.Logger) (begun []*gateway.Release, err error) {
	kept := j.object()
	if err := j.api.Get(ctx, j.name, kept); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	for uid, text := range kept.Data {
		r := &gateway.Release{}
		err := json.Unmarshal([]byte(text), r)
		known := func(s gateway.Step) bool { return slices.Contains(gateway.Steps, s) }
		if err != nil || string(r.UID) != uid || len(r.Found) == 0 || slices.ContainsFunc(r.Pending, func(s gateway.Step) bool { return !known(s) }) {
			log.Error("the journal has an entry that cannot be read", "configMap", j.name, "key", uid, "error", err)
			continue
		}
		begun = append(begun, r)
	}
	return begun, nil
}

func (j journal) object() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: j.name.Namespace, Name: j.name.Name}}
}

func mergePatch(of map[string]any) client.Patch {
	data, err := json.Marshal(of)
	if err != nil {
		panic(err) // maps of texts
	}
	return client.RawPatch(types.MergePatchType, data)
}
