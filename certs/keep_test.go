package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var serving = Serving{Hosts: []string{"webhook.spark-vitals.svc", "127.0.0.1"}, Duration: 90 * 24 * time.Hour, RenewBefore: 30 * 24 * time.Hour}

func mustRenew(t *testing.T, s Serving, data map[string][]byte, now time.Time) (map[string][]byte, string) {
	t.Helper()
	want, why, err := s.renewed(data, now)
	if err != nil {
		t.Fatal(err)
	}
	return want, why
}

// trusted reports whether a client that trusts the CA of one Secret accepts the
// certificate of another.
func trusted(t *testing.T, ca, serves map[string][]byte, host string, now time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca[CAKey]) {
		t.Fatal("no CA")
	}
	pair, err := readPair(serves[CertKey], serves[KeyKey])
	if err != nil {
		t.Fatal(err)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now})
	return err
}

func TestFirstCertificate(t *testing.T) {
	now := time.Now()
	data, why := mustRenew(t, serving, nil, now)
	if why == "" {
		t.Error("nothing was made")
	}
	for _, host := range serving.Hosts {
		// An hour earlier too: the API server's clock may be behind.
		for _, at := range []time.Time{now.Add(-skew / 2), now, now.Add(serving.Duration - time.Second)} {
			if err := trusted(t, data, data, host, at); err != nil {
				t.Errorf("%s at %s: %v", host, at, err)
			}
		}
	}
	if trusted(t, data, data, "another.svc", now) == nil {
		t.Error("it is good for any host")
	}
	again, why := mustRenew(t, serving, data, now.Add(serving.Duration-serving.RenewBefore-time.Second))
	if diff := cmp.Diff(data, again); diff != "" || why != "" {
		t.Errorf("renewed too early, because %q:\n%s", why, diff)
	}
}

// During all renewals of ten years the CA stays, and at each moment the old certificate
// is valid for as long as a kubelet may take to bring the new one.
func TestRenewalsKeepTheCA(t *testing.T) {
	now := time.Now()
	first, _ := mustRenew(t, serving, nil, now)
	data, renewals := first, 0
	for at := now; at.Before(now.AddDate(9, 8, 0)); at = at.Add(24 * time.Hour) {
		before := data
		var why string
		if data, why = mustRenew(t, serving, data, at); why != "" {
			renewals++
			if err := trusted(t, first, before, serving.Hosts[0], at.Add(serving.RenewBefore/2)); err != nil {
				t.Fatalf("the old certificate ends too early: %v", err)
			}
		}
		if err := trusted(t, first, data, serving.Hosts[0], at); err != nil {
			t.Fatalf("after %d renewals, at %s: %v", renewals, at, err)
		}
	}
	if !bytes.Equal(first[CAKey], data[CAKey]) || renewals < 50 {
		t.Errorf("the CA changed, or there were only %d renewals", renewals)
	}
}

// Any mistake in the Secret is repaired, and a valid CA stays.
func TestMended(t *testing.T) {
	now := time.Now()
	whole, _ := mustRenew(t, serving, nil, now)
	other, _ := mustRenew(t, serving, nil, now)
	elsewhere, _ := mustRenew(t, Serving{Hosts: []string{"elsewhere.svc"}, Duration: serving.Duration, RenewBefore: serving.RenewBefore}, map[string][]byte{CAKey: whole[CAKey], CAKeyKey: whole[CAKeyKey]}, now)
	for name, test := range map[string]struct {
		change func(map[string][]byte)
		newCA  bool
	}{
		"no certificate":         {func(d map[string][]byte) { delete(d, CertKey); delete(d, KeyKey) }, false},
		"broken certificate":     {func(d map[string][]byte) { d[CertKey] = []byte("-----BEGIN") }, false},
		"another's key":          {func(d map[string][]byte) { d[KeyKey] = other[KeyKey] }, false},
		"another's certificate":  {func(d map[string][]byte) { d[CertKey], d[KeyKey] = other[CertKey], other[KeyKey] }, false},
		"certificate of another": {func(d map[string][]byte) { d[CertKey], d[KeyKey] = elsewhere[CertKey], elsewhere[KeyKey] }, false},
		"no CA":                  {func(d map[string][]byte) { delete(d, CAKey); delete(d, CAKeyKey) }, true},
		"CA without its key":     {func(d map[string][]byte) { d[CAKeyKey] = other[CAKeyKey] }, true},
	} {
		t.Run(name, func(t *testing.T) {
			data, _ := mustRenew(t, serving, whole, now)
			test.change(data)
			got, why := mustRenew(t, serving, data, now)
			if why == "" || trusted(t, got, got, serving.Hosts[0], now) != nil {
				t.Errorf("not mended: %q", why)
			}
			if changed := !bytes.Equal(got[CAKey], whole[CAKey]); changed != test.newCA {
				t.Errorf("a new CA: %v", changed)
			}
		})
	}
	t.Run("CA that the alert tells of", func(t *testing.T) {
		s := Serving{Hosts: serving.Hosts, Duration: longest, RenewBefore: serving.RenewBefore}
		got, _ := mustRenew(t, s, whole, now.AddDate(10, 0, -180))
		if !bytes.Equal(got[CAKey], whole[CAKey]) {
			t.Error("a new CA before the alert SparkVitalsCAExpires")
		}
	})
	t.Run("CA that ends too early", func(t *testing.T) {
		late := now.AddDate(10, 0, 0).Add(-serving.Duration)
		got, _ := mustRenew(t, serving, whole, late)
		if bytes.Equal(got[CAKey], whole[CAKey]) {
			t.Error("the CA ends before the certificate")
		}
	})
}

// The keeper renews in time, tolerates a missing Secret, and fills an emptied one
// within a minute. It checks often, so the days are hours here.
func TestKeep(t *testing.T) {
	serving := Serving{Hosts: serving.Hosts, Duration: 9 * time.Hour, RenewBefore: 3 * time.Hour}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		client := fake.NewClientset()
		k := &Keeper{Client: client, Namespace: "spark-vitals", Secret: "certs", ConfigMap: "ca", Serving: serving, Log: slog.New(slog.DiscardHandler)}
		go k.Keep(ctx)
		time.Sleep(time.Minute)
		if k.Kept() {
			t.Error("kept without a Secret")
		}
		secrets := client.CoreV1().Secrets(k.Namespace)
		if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: k.Secret}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retry)
		synctest.Wait()
		if k.Kept() {
			t.Error("kept without a ConfigMap")
		}
		if _, err := client.CoreV1().ConfigMaps(k.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: k.ConfigMap}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retry)
		synctest.Wait()
		if !k.Kept() {
			t.Fatal("not kept")
		}
		published := func(secret *corev1.Secret) {
			t.Helper()
			configMap, err := client.CoreV1().ConfigMaps(k.Namespace).Get(ctx, k.ConfigMap, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{CAKey: string(secret.Data[CAKey])}, configMap.Data); diff != "" {
				t.Errorf("the ConfigMap (-want +got):\n%s", diff)
			}
		}
		get := func() *corev1.Secret {
			secret, err := secrets.Get(ctx, k.Secret, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
		published(get())
		emptied := get()
		emptied.Data = nil
		if _, err := secrets.Update(ctx, emptied, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		first := get()
		if len(first.Data) == 0 {
			t.Fatal("still empty after a minute")
		}
		published(first) // another CA than before
		time.Sleep(2 * serving.Duration)
		synctest.Wait()
		last := get()
		if err := trusted(t, first.Data, last.Data, serving.Hosts[0], time.Now()); err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
	})
}

// An installation whose Secret is older than the ConfigMap keeps its CA and its
// certificate, and a change of the ConfigMap lasts for a minute.
func TestUpgradeKeepsTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		data, _ := mustRenew(t, serving, nil, time.Now())
		client := fake.NewClientset(
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "certs"}, Data: data},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "ca"}})
		k := &Keeper{Client: client, Namespace: "spark-vitals", Secret: "certs", ConfigMap: "ca", Serving: serving, Log: slog.New(slog.DiscardHandler)}
		go k.Keep(ctx)
		for _, wait := range []time.Duration{time.Second, time.Minute} {
			time.Sleep(wait)
			synctest.Wait()
			secret, err := client.CoreV1().Secrets(k.Namespace).Get(ctx, k.Secret, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			configMap, err := client.CoreV1().ConfigMaps(k.Namespace).Get(ctx, k.ConfigMap, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(data, secret.Data); diff != "" || configMap.Data[CAKey] != string(data[CAKey]) {
				t.Errorf("the ConfigMap holds %v; the Secret (-want +got):\n%s", configMap.Data, diff)
			}
			configMap.Data[CAKey] = "another's"
			if _, err := client.CoreV1().ConfigMaps(k.Namespace).Update(ctx, configMap, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		synctest.Wait()
	})
}

// Trust waits for the CA, and then changes only what differs.
func TestTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mutating := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals", ResourceVersion: "1"}, Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "a"}, {Name: "b"}}}
		validating := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals", ResourceVersion: "1"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "c"}}}
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "ca"}}
		client := fake.NewClientset(mutating, validating, configMap)
		done := make(chan error)
		trust := func() {
			done <- Trust(t.Context(), client, "spark-vitals", "ca", "spark-vitals", slog.New(slog.DiscardHandler))
		}
		go trust()
		time.Sleep(time.Minute)
		configMap.Data = map[string]string{CAKey: "CA"}
		if _, err := client.CoreV1().ConfigMaps("spark-vitals").Update(t.Context(), configMap, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "spark-vitals", metav1.GetOptions{})
		if err != nil || string(m.Webhooks[0].ClientConfig.CABundle) != "CA" || string(m.Webhooks[1].ClientConfig.CABundle) != "CA" {
			t.Errorf("%+v, %v", m, err)
		}
		before := len(client.Actions())
		go trust()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, action := range client.Actions()[before:] {
			if action.GetVerb() != "get" {
				t.Errorf("the second time: %s", action.GetVerb())
			}
		}
		if err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "spark-vitals", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		go trust()
		if err := <-done; err != nil {
			t.Errorf("without a validating webhook: %v", err)
		}
	})
}

func TestTrustGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := Trust(ctx, fake.NewClientset(), "spark-vitals", "ca", "spark-vitals", slog.New(slog.DiscardHandler))
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(`"ca" not found`)) {
			t.Errorf("it does not say what is missing: %v", err)
		}
	})
}

func TestServingCheck(t *testing.T) {
	for name, s := range map[string]Serving{
		"--host":         {Duration: time.Hour, RenewBefore: time.Minute},
		"--duration":     {Hosts: []string{"a"}, Duration: 365 * 24 * time.Hour, RenewBefore: time.Minute},
		"--renew-before": {Hosts: []string{"a"}, Duration: time.Hour, RenewBefore: time.Hour},
	} {
		if err := s.Check(); err == nil || !bytes.HasPrefix([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := serving.Check(); err != nil {
		t.Error(err)
	}
}

// After a Secret was lost, an upgrade does not trust its old CA: the hook waits until
// the keeper has seen what the upgrade brought.
func TestTrustAfterALostSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		old, _ := mustRenew(t, serving, nil, time.Now())
		client := fake.NewClientset(
			&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "spark-vitals", ResourceVersion: "1"}, Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "a"}}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "certs"}}, // made anew, by the upgrade
			&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "spark-vitals", Name: "ca", Annotations: map[string]string{revisionAnnotation: "2"}},
				Data:       map[string]string{CAKey: string(old[CAKey]), revisionKey: "1"},
			})
		done := make(chan error)
		go func() {
			done <- Trust(ctx, client, "spark-vitals", "ca", "spark-vitals", slog.New(slog.DiscardHandler))
		}()
		time.Sleep(3 * time.Second) // the hook is first
		k := &Keeper{Client: client, Namespace: "spark-vitals", Secret: "certs", ConfigMap: "ca", Serving: serving, Log: slog.New(slog.DiscardHandler)}
		go k.Keep(ctx)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		secret, err := client.CoreV1().Secrets("spark-vitals").Get(ctx, "certs", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "spark-vitals", metav1.GetOptions{})
		if err != nil || !bytes.Equal(m.Webhooks[0].ClientConfig.CABundle, secret.Data[CAKey]) || bytes.Equal(secret.Data[CAKey], old[CAKey]) {
			t.Errorf("the CA that is trusted is not the one that signs: %v", err)
		}
		cancel()
		synctest.Wait()
	})
}
