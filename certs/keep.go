package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
)

// Keeper keeps a certificate in a Secret, and the CA that it is trusted by in a
// ConfigMap of the same namespace.
type Keeper struct {
	Client                       kubernetes.Interface
	Namespace, Secret, ConfigMap string
	Serving                      Serving
	Log                          *slog.Logger

	kept     atomic.Bool  // at least once
	caExpiry atomic.Int64 // in Unix seconds
}

// retry is the wait after an error. Renewals come weeks before they are needed, so
// there is no hurry. At an installation the webhook waits for the keeper.
const retry = 5 * time.Second

// An upgrade waits until the keeper has looked at the Secret after the upgrade began. The
// chart writes its revision into an annotation of the ConfigMap, and the keeper copies it
// next to the CA. Otherwise the CA of a lost Secret would be trusted again.
const (
	revisionAnnotation = "spark-vitals.io/revision"
	revisionKey        = "revision"
)

// often is how often the keeper looks.
const often = 10 * time.Second

// Keep keeps the certificate until the context ends. It fills an emptied Secret
// within seconds: without it no new webhook starts, and an upgrade waits for it.
func (k *Keeper) Keep(ctx context.Context) {
	often := min(k.Serving.RenewBefore/10, often)
	for {
		next := often
		if err := k.once(ctx); err != nil {
			k.Log.Error("keeping the certificate", "secret", k.Namespace+"/"+k.Secret, "error", err)
			next = min(often, retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// once looks at the Secret and the ConfigMap and corrects them. If two keepers do so at
// once, the object's version makes one of them fail, and its next try finds them
// correct.
func (k *Keeper) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// Before the Secret, so that the revision is one that began before it was read.
	configMap, unread := k.Client.CoreV1().ConfigMaps(k.Namespace).Get(ctx, k.ConfigMap, metav1.GetOptions{})
	secrets := k.Client.CoreV1().Secrets(k.Namespace)
	secret, err := secrets.Get(ctx, k.Secret, metav1.GetOptions{})
	if err != nil {
		return err
	}
	data, why, err := k.Serving.renewed(secret.Data, time.Now())
	if err != nil {
		return fmt.Errorf("making %s: %w", why, err)
	}
	if why != "" {
		secret.Data = data
		if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
			return err
		}
		k.Log.Info("made "+why, "secret", k.Namespace+"/"+k.Secret)
	}
	if ca, err := cert.ParseCertsPEM(data[CAKey]); err == nil {
		k.caExpiry.Store(earliest(ca).Unix())
	}
	if unread != nil {
		return unread
	}
	if err := k.publish(ctx, configMap, data[CAKey]); err != nil {
		return err
	}
	k.kept.Store(true)
	return nil
}

// publish writes the CA's certificate into the ConfigMap.
func (k *Keeper) publish(ctx context.Context, configMap *corev1.ConfigMap, ca []byte) error {
	data := map[string]string{CAKey: string(ca)}
	if revision := configMap.Annotations[revisionAnnotation]; revision != "" {
		data[revisionKey] = revision
	}
	if maps.Equal(configMap.Data, data) {
		return nil
	}
	configMap.Data = data
	_, err := k.Client.CoreV1().ConfigMaps(k.Namespace).Update(ctx, configMap, metav1.UpdateOptions{FieldManager: fieldManager})
	return err
}

func earliest(all []*x509.Certificate) time.Time {
	end := all[0].NotAfter
	for _, c := range all {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

const fieldManager = "spark-vitals-certs"

// Kept reports whether the Secret and the ConfigMap have what they should.
func (k *Keeper) Kept() bool { return k.kept.Load() }

// Expiry returns the metric of the CA's expiry.
func (k *Keeper) Expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_ca_expiry_timestamp_seconds",
		Help: "When the CA of the self-kept certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(k.caExpiry.Load()) })
}
