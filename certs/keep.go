package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
)

// Keeper keeps a certificate in a Secret.
type Keeper struct {
	Client            kubernetes.Interface
	Namespace, Secret string
	Serving           Serving
	Log               *slog.Logger

	kept     atomic.Bool  // at least once
	caExpiry atomic.Int64 // in Unix seconds
}

// retry is how soon it is tried again after an error. Renewals come weeks before
// they are needed, so no hurry; at an installation the webhook waits for it.
const retry = 5 * time.Second

// Keep the certificate until the context ends. A Secret that was emptied is filled
// within a minute: without it no new webhook starts, and an upgrade waits for it.
func (k *Keeper) Keep(ctx context.Context) {
	often := min(k.Serving.RenewBefore/10, time.Minute)
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

// once looks at the Secret and mends it. Of two who do so at once one is refused
// by the Secret's version, and finds it mended when it tries again.
func (k *Keeper) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
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
	k.kept.Store(true)
	return nil
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

// Kept tells whether the Secret holds what it should.
func (k *Keeper) Kept() bool { return k.kept.Load() }

// Expiry of the CA, as a metric.
func (k *Keeper) Expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spark_vitals_ca_expiry_timestamp_seconds",
		Help: "When the CA of the self-kept certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(k.caExpiry.Load()) })
}
