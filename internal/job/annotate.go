package job

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Annotate writes an annotation of a pod, or removes it if the value is "". It patches
// the status, because that right cannot change what a pod runs. It returns no error if
// the pod is gone, or if another one has its name.
func Annotate(ctx context.Context, api client.Client, of Key, key, value string) error {
	var text any = value
	if value == "" {
		text = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         of.UID, // another pod of that name answers with 422
		"annotations": map[string]any{key: text},
	}})
	if err != nil {
		return err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: of.Namespace, Name: of.Name}}
	err = api.Status().Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch))
	if isGone(err, of) || IsReplaced(err) {
		return nil
	}
	return err
}

// isGone reports whether the pod was not found, and not something else on the way to
// it.
func isGone(err error, of Key) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name == of.Name
}

// IsReplaced reports whether a patch of a pod was refused because another pod has its
// name.
func IsReplaced(err error) bool { return IsInvalid(err, "metadata.uid") }

// IsInvalid reports whether a call was refused because of the field at a path.
func IsInvalid(err error, path string) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsInvalid(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == path })
}
