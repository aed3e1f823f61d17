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

// maxEntry leaves room for others in the 1 MiB of a ConfigMap.
const maxEntry = 8 << 10

// write down a release, before its first change.
func (j journal) write(ctx context.Context, uid types.UID, r *gateway.Release) error {
	text, err := json.Marshal(r)
	if err == nil && len(text) > maxEntry {
		err = fmt.Errorf("an entry of %d bytes", len(text))
	}
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

// remove a release; there may be none.
func (j journal) remove(ctx context.Context, uid types.UID) error {
	err := j.api.Patch(ctx, j.object(), mergePatch(map[string]any{"data": map[string]any{string(uid): nil}}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// read what is written down. An entry that is none of ours is told and left.
func (j journal) read(ctx context.Context, namespaces []string, log *slog.Logger) (begun []*gateway.Release, err error) {
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
		if err != nil || string(r.UID) != uid || !proven(r, namespaces) {
			log.Error("the journal has an entry that cannot be read", "configMap", j.name, "key", uid, "error", err)
			continue
		}
		begun = append(begun, r)
	}
	return begun, nil
}

// proven tells whether a release is one that the journal may hold: of a driver
// where engines live, with its keys and its proof, and in the middle.
func proven(r *gateway.Release, namespaces []string) bool {
	n, e := len(r.Pending), r.Engine
	return slices.Contains(namespaces, r.Driver.Namespace) && e.Reference != "" && e.Application != "" && len(e.Addresses) > 0 &&
		len(r.Found) > 0 && n < len(gateway.Steps) && slices.Equal(r.Pending, gateway.Steps[len(gateway.Steps)-n:])
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
