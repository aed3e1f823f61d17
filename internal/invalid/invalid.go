// Package invalid tells what the API server has found wrong.
package invalid

import (
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Field tells whether a call was refused because of a field of this path. A patch
// with the UID of a pod that another one of its name has replaced is refused
// because of "metadata.uid".
func Field(err error, path string) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsInvalid(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == path })
}
