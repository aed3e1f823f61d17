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

// Annotate writes an annotation of a pod, or removes it if the value is "". It
// writes by the status, because that right cannot change what a pod runs. A pod that
// is gone, and another one of its name, is no error.
func Annotate(ctx context.Context, api client.Client, of Key, key, value string) error {
	var text any = value
	if value == "" {
		text = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         of.UID, // of another pod of that name: 422
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

// isGone tells whether it is the pod that was not found, and nothing else on the way
// to it.
func isGone(err error, of Key) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name == of.Name
}

// IsReplaced tells whether a patch of a pod was refused because another pod of its
// name has replaced it.
func IsReplaced(err error) bool { return IsInvalid(err, "metadata.uid") }

// IsInvalid tells whether a call was refused because of a field of this path.
func IsInvalid(err error, path string) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsInvalid(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == path })
}
