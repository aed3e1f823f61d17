package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// Trust waits for the CA of a ConfigMap. It writes the CA into the mutating webhook
// configuration of a name, and into the validating one if there is one. It changes
// nothing else of them, and nothing if the CA is there already.
func Trust(ctx context.Context, client kubernetes.Interface, namespace, configMap, configuration string, log *slog.Logger) error {
	ca, err := waitForCA(ctx, client, namespace, configMap)
	if err != nil {
		return fmt.Errorf("waiting for %s in the ConfigMap %s/%s: %w", CAKey, namespace, configMap, err)
	}
	mutating := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	m, err := mutating.Get(ctx, configuration, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var configs []*admissionregistrationv1.WebhookClientConfig
	for i := range m.Webhooks {
		configs = append(configs, &m.Webhooks[i].ClientConfig)
	}
	if patch := trusting(ca, m.ResourceVersion, configs); patch != nil {
		if _, err := mutating.Patch(ctx, configuration, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
			return err
		}
		log.Info("the mutating webhook configuration trusts the CA", "name", configuration)
	}
	validating := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	v, err := validating.Get(ctx, configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	configs = nil
	for i := range v.Webhooks {
		configs = append(configs, &v.Webhooks[i].ClientConfig)
	}
	if patch := trusting(ca, v.ResourceVersion, configs); patch != nil {
		if _, err := validating.Patch(ctx, configuration, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
			return err
		}
		log.Info("the validating webhook configuration trusts the CA", "name", configuration)
	}
	return nil
}

// waitForCA waits until the keeper has made the CA and has looked at it since the
// chart's last revision began, or until the context ends.
func waitForCA(ctx context.Context, client kubernetes.Interface, namespace, configMap string) (ca []byte, err error) {
	missing := errMissing
	err = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		found, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, configMap, metav1.GetOptions{})
		if err != nil {
			missing = err // perhaps of a role that is a second old
			return false, nil
		}
		missing, ca = errMissing, []byte(found.Data[CAKey])
		return len(ca) > 0 && found.Data[revisionKey] == found.Annotations[revisionAnnotation], nil
	})
	if err != nil {
		return nil, errors.Join(err, missing)
	}
	return ca, nil
}

// trusting returns the JSON patch that makes webhooks trust a CA, or nil if they do.
// The version ensures that the webhooks are in the order that was read.
func trusting(ca []byte, version string, configs []*admissionregistrationv1.WebhookClientConfig) []byte {
	operations := []jsonpatch.Operation{{Operation: "test", Path: "/metadata/resourceVersion", Value: version}}
	for i, c := range configs {
		if !bytes.Equal(c.CABundle, ca) {
			operations = append(operations, jsonpatch.Operation{Operation: "add", Path: fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), Value: ca})
		}
	}
	if len(operations) == 1 {
		return nil
	}
	patch, _ := json.Marshal(operations) // strings and bytes
	return patch
}
