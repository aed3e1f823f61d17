package kyuubi

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ZooKeeper is spoken to by TLS, with a certificate of our own where it asks for
// one; what is wrong with it is reported. e2e/releaser has a real one behind TLS.
func TestZooKeeperByTLS(t *testing.T) {
	served := httptest.NewUnstartedServer(http.NotFoundHandler())
	served.StartTLS()
	defer served.Close()
	pair := served.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "tls.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		tls, says string
		arrives   bool
	}{
		"right":                {tls: "serverName: example.com, caFile: DIR/tls.crt, certFile: DIR/tls.crt, keyFile: DIR/tls.key", arrives: true},
		"another name":         {tls: "serverName: zookeeper, caFile: DIR/tls.crt, certFile: DIR/tls.crt, keyFile: DIR/tls.key", says: "not zookeeper"},
		"an unknown authority": {tls: "serverName: example.com, certFile: DIR/tls.crt, keyFile: DIR/tls.key", says: "unknown authority"},
		"no file":              {tls: "serverName: example.com, caFile: DIR/none", says: "zookeeper.tls.caFile"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			arrived := make(chan bool, 100)
			go func() {
				for {
					connection, err := listener.Accept()
					if err != nil {
						return
					}
					arrived <- connection.(*tls.Conn).HandshakeContext(t.Context()) == nil
					_ = connection.Close()
				}
			}()
			config, err := ParseConfig(fmt.Appendf(nil, "namespaces: [spark]\nzookeeper: {servers: [%q], timeoutSeconds: 2, tls: {%s}}\nservers: {urls: [http://kyuubi:1]}", listener.Addr(), strings.ReplaceAll(c.tls, "DIR", dir)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := newRegistry(*config.ZooKeeper).read(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
			if c.arrives {
				select {
				case ok := <-arrived:
					if !ok {
						t.Error("no handshake")
					}
				case <-time.After(time.Minute):
					t.Error("no connection came")
				}
			}
		})
	}
}
