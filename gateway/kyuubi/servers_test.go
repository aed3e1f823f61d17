package kyuubi

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

func slice(namespace, name, service string, addresses ...string) client.Object {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: managed}}, AddressType: discoveryv1.AddressTypeIPv4}
	for i, address := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(i == 0)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "pod-" + address}})
	}
	return s
}

// All servers of the Service, ready or not, once each, and no other's.
func TestServersOfService(t *testing.T) {
	byHand := slice("kyuubi", "hand", "kyuubi", "10.0.0.5").(*discoveryv1.EndpointSlice)
	byHand.Labels[discoveryv1.LabelManagedBy] = "me"
	strange := slice("kyuubi", "strange", "kyuubi", "10.0.0.6", "10.0.0.7", "10.0.0.8").(*discoveryv1.EndpointSlice)
	strange.Endpoints[0].TargetRef = nil
	strange.Endpoints[1].TargetRef.Namespace = "strangers"
	strange.Endpoints[2].Conditions = discoveryv1.EndpointConditions{Terminating: new(true), Serving: new(false)}
	api := fake.NewClientBuilder().WithObjects(byHand, strange,
		slice("kyuubi", "a", "kyuubi", "10.0.0.2", "10.0.0.1"), slice("kyuubi", "b", "kyuubi", "10.0.0.1", "fd00::1"),
		slice("kyuubi", "c", "other", "10.0.0.3"), slice("strangers", "d", "kyuubi", "10.0.0.4"),
	).Build()
	c, err := ParseConfig([]byte(`
namespaces: [spark]
zookeeper: {servers: ["zookeeper:2181"]}
servers: {service: {namespace: kyuubi, name: kyuubi}, tls: {serverName: kyuubi}}
`))
	if err != nil {
		t.Fatal(err)
	}
	servers, err := New(c, api).bases(t.Context())
	var got []string
	for _, s := range servers {
		got = append(got, s.base)
	}
	if want := []string{"https://10.0.0.1:10099", "https://10.0.0.2:10099", "https://[fd00::1]:10099"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TLS with the configured authority and name, and no other.
func TestTLS(t *testing.T) {
	stand := &kyuubitest.Server{}
	served := httptest.NewTLSServer(stand)
	defer served.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	for name, c := range map[string]struct {
		authorities []*x509.Certificate
		serverName  string
		says        string
	}{
		"right":             {[]*x509.Certificate{served.Certificate()}, "example.com", ""},
		"another name":      {[]*x509.Certificate{served.Certificate()}, "kyuubi", "not kyuubi"},
		"another authority": {nil, "example.com", "has no certificate"},
	} {
		var text []byte
		for _, a := range c.authorities {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})...)
		}
		if err := os.WriteFile(ca, text, 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := ParseConfig([]byte(`
namespaces: [spark]
zookeeper: {servers: ["zookeeper:2181"]}
servers: {urls: ["` + served.URL + `"], tls: {caFile: ` + ca + `, serverName: ` + c.serverName + `}, timeoutSeconds: 60}
`))
		if err != nil {
			t.Fatal(err)
		}
		closed, err := New(config, nil).closeSessions(t.Context(), &gateway.Release{Engine: healthy})
		for _, c := range closed {
			err = errors.Join(err, c.Err)
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Credentials go only to the configured servers: through no proxy, and to no server that
// another server names.
func TestCredentialsStay(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("sent to another server: %s", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	stand := &kyuubitest.Server{}
	stand.Fail(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		return nil
	})
	served := httptest.NewServer(stand)
	defer served.Close()
	c, err := ParseConfig([]byte(strings.Replace(with(t, basic, map[string]string{"user": "ops", "password": "secret"}), "http://kyuubi-0", served.URL, 1)))
	if err != nil {
		t.Fatal(err)
	}
	c.Servers.URLs = c.Servers.URLs[:1]
	if closed, err := New(c, nil).closeSessions(t.Context(), &gateway.Release{Engine: healthy}); err != nil || closed[0].Err == nil {
		t.Error("a redirect was taken for an answer")
	}
}
