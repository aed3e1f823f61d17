package releaser

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

func exactly(t testing.TB, root, digestFile string) *kyuubi.Kyuubi {
	t.Helper()
	c, err := kyuubi.ParseConfig(fmt.Appendf(nil, "namespaces: [spark]\nzookeeper: {servers: [%q], root: %q, digestFile: %q, timeoutSeconds: 30}\nservers: {urls: [%q]}", zookeeper.Address, root, digestFile, urls[0]))
	if err != nil {
		t.Fatal(err)
	}
	return kyuubi.New(c, nil)
}

// On a real ZooKeeper with random engines of all share levels, each engine that dies is
// found, and nothing else is deleted.
func TestAmongMany(t *testing.T) {
	const seed, many = 1, 150
	random := rand.New(rand.NewPCG(seed, seed))
	registry, stop, err := connect(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	nodes := map[string]gateway.Engine{}
	for i := range many {
		e := gateway.Engine{Reference: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), Application: fmt.Sprintf("spark-many-%d", i), Addresses: []string{fmt.Sprintf("10.9.0.%d", i)}}
		space := kyuubitest.Space{
			Level: []string{"USER", "CONNECTION", "GROUP", "SERVER", "SERVER_LOCAL"}[random.IntN(5)],
			User:  fmt.Sprintf("user-%d", random.IntN(20)), Subdomain: []string{"default", "engine-pool-0", "engine-pool-1"}[random.IntN(3)],
		}
		if space.Level == "CONNECTION" {
			space.Subdomain = e.Reference
		}
		node, err := kyuubitest.Register(registry, space, e.Reference, e.Application, e.Addresses[0]+":1")
		if err != nil {
			t.Fatal(err)
		}
		nodes[node] = e
	}
	k := exactly(t, "", "")
	for node, e := range nodes {
		if random.IntN(3) > 0 {
			continue
		}
		forged := e
		forged.Addresses = []string{"10.9.1.1"}
		if found, err := k.Registrations(t.Context(), forged); err != nil || len(found) > 0 {
			t.Fatalf("with another address: %q, %v", found, err)
		}
		found, err := k.Registrations(t.Context(), e)
		if err != nil || !slices.Equal(found, []gateway.Registration{gateway.Registration(node)}) {
			t.Fatalf("%q, %v, want %s", found, err, node)
		}
		for range 2 { // again is as good
			if err := k.Deregister(t.Context(), &gateway.Release{Engine: e, Found: found}); err != nil {
				t.Fatal(err)
			}
		}
		delete(nodes, node)
	}
	for node := range nodes {
		left, err := registry.Children(filepath.Dir(node))
		if err != nil || !slices.Contains(left, filepath.Base(node)) {
			t.Errorf("%s is gone (%v)", node, err)
		}
	}
}

// ZooKeeper uses TLS and asks for a certificate of its authority.
func TestZooKeeperByTLS(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"server", "client"} {
		if err := controlPlane.Authority.Issue(dir, name, pkix.Name{CommonName: name}, "zookeeper"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), controlPlane.Authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(controlPlane.Authority.PEM)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", zookeeper.Address)
			if err != nil {
				_ = from.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
			go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
		}
	}()
	registry, stop, err := connect(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	e := gateway.Engine{Reference: "tls", Application: "spark-tls", Addresses: []string{"10.9.3.1"}}
	if _, err := kyuubitest.Register(registry, kyuubitest.Space{Level: "USER", User: "alice", Subdomain: "tls"}, e.Reference, e.Application, "10.9.3.1:1"); err != nil {
		t.Fatal(err)
	}
	for own, want := range map[string]int{fmt.Sprintf(", certFile: %[1]s/client.crt, keyFile: %[1]s/client.key", dir): 1, "": 0} {
		c, err := kyuubi.ParseConfig(fmt.Appendf(nil, "namespaces: [spark]\nzookeeper: {servers: [%q], timeoutSeconds: 10, tls: {caFile: %s/ca.crt, serverName: zookeeper%s}}\nservers: {urls: [%q]}", listener.Addr(), dir, own, urls[0]))
		if err != nil {
			t.Fatal(err)
		}
		found, err := kyuubi.New(c, nil).Registrations(t.Context(), e)
		if len(found) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %q, %v", own, found, err)
		}
	}
}

// BenchmarkLook measures a look at 2,000 engines, each of another user, in a real
// ZooKeeper.
func BenchmarkLook(b *testing.B) {
	const many = 2000
	registry, stop, err := connect(time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	var engines []gateway.Engine
	for i := range many {
		e := gateway.Engine{Reference: fmt.Sprintf("%08x-0000-4000-9000-000000000000", i), Application: fmt.Sprintf("spark-look-%d", i), Addresses: []string{fmt.Sprintf("10.8.%d.%d", i/250, i%250)}}
		if _, err := kyuubitest.Register(registry, kyuubitest.Space{Level: "USER", User: fmt.Sprintf("look-%d", i), Subdomain: "default"}, e.Reference, e.Application, e.Addresses[0]+":1"); err != nil {
			b.Fatal(err)
		}
		engines = append(engines, e)
	}
	k := exactly(b, "", "")
	b.ReportAllocs()
	for b.Loop() {
		if found, err := k.Look(b.Context(), engines); err != nil || len(found[many-1]) != 1 {
			b.Fatal(err)
		}
	}
}

// Kyuubi uses a root node and digest authentication.
func TestDigest(t *testing.T) {
	conn, _, err := zk.Connect([]string{zookeeper.Address}, time.Minute, zk.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.AddAuth("digest", []byte("kyuubi:secret")); err != nil {
		t.Fatal(err)
	}
	e := gateway.Engine{Reference: "d", Application: "spark-d", Addresses: []string{"10.9.2.1"}}
	path := ""
	for _, step := range []string{"chroot", "kyuubi_1.12.0_USER_SPARK_SQL", "alice", "default"} {
		path += "/" + step
		if _, err := conn.Create(path, nil, 0, zk.DigestACL(zk.PermAll, "kyuubi", "secret")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Create(path+"/serverUri=10.9.2.1:1;refId=d;kyuubi.engine.id=spark-d;sequence=", nil, zk.FlagEphemeral|zk.FlagSequence, zk.DigestACL(zk.PermAll, "kyuubi", "secret")); err != nil {
		t.Fatal(err)
	}
	digest := filepath.Join(t.TempDir(), "digest")
	for text, want := range map[string]gateway.Reason{"kyuubi:wrong": gateway.RightsMissing, "": gateway.RightsMissing, "kyuubi:secret\n": ""} {
		if err := os.WriteFile(digest, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k := exactly(t, "/chroot", digest)
		found, err := k.Registrations(t.Context(), e)
		refusal := &gateway.Refusal{}
		if errors.As(err, &refusal); refusal.Reason != want || want == "" && (len(found) != 1 || err != nil) {
			t.Errorf("%q: %q, %v", text, found, err)
		}
		if want == "" {
			if err := k.Deregister(t.Context(), &gateway.Release{Engine: e, Found: found}); err != nil {
				t.Error(err)
			}
		}
	}
	refusal := &gateway.Refusal{}
	if _, err := exactly(t, "/elsewhere", "").Registrations(t.Context(), e); !errors.As(err, &refusal) || refusal.Reason != gateway.WrongPath {
		t.Error(err)
	}
}
