package releaser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// journal holds the releases that are proven and not finished: for each pod's UID one
// entry of some 1,000 bytes. It is not on the pod, because others may write to the pod
// or delete it. It also holds engines that run and are no longer registered, each
// under its own key, so that neither overwrites the other.
//
// It is several ConfigMaps next to the releaser, because each write of an entry writes
// the whole object. With one ConfigMap, 500 engines that die in a minute would write
// 390 MB.
type journal struct {
	api  client.Client
	name types.NamespacedName
	// kept has the ConfigMap of each entry that was read. Version 0.1.0 had only one.
	kept *sync.Map
}

func newJournal(api client.Client, name types.NamespacedName) journal {
	return journal{api, name, &sync.Map{}}
}

// shards is the number of ConfigMaps. The first has the same name as that of 0.1.0.
const shards = 8

// maxEntry limits an entry, so that others also fit into the 1 MiB of a ConfigMap.
const maxEntry = 8 << 10

// runningSuffix is the end of the key of a running engine.
const runningSuffix = ".life"

// errFull means that the ConfigMap has no space left.
var errFull = errors.New("the journal is full")

// runningKey returns the key of an engine that runs and is no longer registered.
func runningKey(uid types.UID) string { return string(uid) + runningSuffix }

// write writes a release down, before its first change, or a running engine.
func (j journal) write(ctx context.Context, key string, r *gateway.Release) error {
	text, err := json.Marshal(r)
	if err == nil && len(text) > maxEntry {
		err = fmt.Errorf("an entry of %d bytes", len(text))
	}
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	entry := map[string]string{key: string(text)}
	at := j.of(key)
	j.kept.Store(key, at) // also if no answer comes
	err = j.api.Patch(ctx, j.object(at), mergePatch(map[string]any{"data": entry}))
	if apierrors.IsNotFound(err) {
		first := j.object(at)
		first.Data = entry
		err = j.api.Create(ctx, first)
	}
	if apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) { // more than 1 MiB
		err = fmt.Errorf("%w: %w", errFull, err)
	}
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// remove removes those of the keys that were written, in their order.
func (j journal) remove(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if _, written := j.kept.Load(key); !written {
			continue
		}
		err := j.api.Patch(ctx, j.object(j.of(key)), mergePatch(map[string]any{"data": map[string]any{key: nil}}))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("writing the journal: %w", err)
		}
		j.kept.Delete(key)
	}
	return nil
}

// read returns what is written down. It logs an entry that it cannot use, and leaves it
// there.
func (j journal) read(ctx context.Context, namespaces []string, log *slog.Logger) (begun, alive []*gateway.Release, err error) {
	for shard := range shards {
		kept := j.object(shard)
		err := j.api.Get(ctx, client.ObjectKeyFromObject(kept), kept)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading the journal: %w", err)
		}
		for key, text := range kept.Data {
			r := &gateway.Release{}
			uid, isRunning := strings.CutSuffix(key, runningSuffix)
			err := json.Unmarshal([]byte(text), r)
			switch {
			case err != nil || string(r.UID) != uid || !ours(r, namespaces) || isRunning != unbegun(r) || !isRunning && !proven(r):
				log.Error("the journal has an entry that cannot be read", "configMap", kept.Name, "key", key, "error", err)
				continue
			case isRunning:
				alive = append(alive, r)
			default:
				begun = append(begun, r)
			}
			j.kept.Store(key, shard)
		}
	}
	return begun, alive, nil
}

// ours reports whether a release is of a driver in the namespaces of engines, with all
// keys.
func ours(r *gateway.Release, namespaces []string) bool {
	e := r.Engine
	return slices.Contains(namespaces, r.Driver.Namespace) && e.Reference != "" && e.Application != "" && len(e.Addresses) > 0 &&
		gateway.Bounded(r.Found) && gateway.Bounded(r.WhileRunning)
}

// proven reports whether a release has its proof, and is unfinished.
func proven(r *gateway.Release) bool {
	n := len(r.Pending)
	return len(r.Found) > 0 && n < len(gateway.Steps) && slices.Equal(r.Pending, gateway.Steps[len(gateway.Steps)-n:])
}

// unbegun reports whether a release has not begun, and is of an engine that was
// registered while it ran.
func unbegun(r *gateway.Release) bool {
	return len(r.Found) == 0 && len(r.WhileRunning) > 0 && slices.Equal(r.Pending, gateway.Steps)
}

// of returns the index of an entry's ConfigMap: the one that has it, or else the one
// that should.
func (j journal) of(key string) (shard int) {
	if shard, ok := j.kept.Load(key); ok {
		return shard.(int)
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(strings.TrimSuffix(key, runningSuffix)))
	return int(sum.Sum32() % shards)
}

func (j journal) object(shard int) *corev1.ConfigMap {
	name := j.name.Name
	if shard > 0 {
		name = fmt.Sprintf("%s-%d", name, shard)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: j.name.Namespace, Name: name}}
}

func mergePatch(of map[string]any) client.Patch {
	data, err := json.Marshal(of)
	if err != nil {
		panic(err) // maps of texts
	}
	return client.RawPatch(types.MergePatchType, data)
}
