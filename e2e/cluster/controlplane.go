// Package cluster runs a real Kubernetes on this machine, from binaries linked
// out of Kubernetes' own Go modules: no container registry, no docker.
package cluster

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ControlPlane is a running etcd and kube-apiserver: everything that admission
// is, without nodes.
type ControlPlane struct {
	// Dir holds everything of the cluster: keys, data and logs.
	Dir       string
	Authority *Authority
	// Config has all rights.
	Config     *rest.Config
	Kubeconfig string // a file with the same
	processes  []*process
}

const adminToken = "admin" // on loopback, for as long as the tests run

// StartControlPlane starts etcd and kube-apiserver in a folder, on free ports of
// loopback, and waits until they are ready.
func StartControlPlane(ctx context.Context, dir string, progress io.Writer) (_ *ControlPlane, err error) {
	binary, err := Build(ctx, "e2e/kubernetes/controlplane", "controlplane", progress)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{Dir: dir, Kubeconfig: filepath.Join(dir, "kubeconfig")}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	if err := c.writeKeys(); err != nil {
		return nil, fmt.Errorf("making the cluster's keys: %w", err)
	}
	c.Config = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", ports[2]),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.Authority.PEM},
		QPS:             -1,
		WarningHandler:  rest.NoWarnings{},
	}
	if err := c.writeKubeconfig(); err != nil {
		return nil, err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	if err := c.run("etcd", binary, "etcd", "--data-dir=etcd", "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", ports[1]), "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return nil, err
	}
	if err := c.run("kube-apiserver", binary, "kube-apiserver", "--etcd-servers="+etcd,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[2]),
		"--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt",
		"--service-account-key-file=serviceaccounts.key", "--service-account-signing-key-file=serviceaccounts.key",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--allow-privileged", "--endpoint-reconciler-type=none"); err != nil {
		return nil, err
	}
	return c, c.waitReady(ctx)
}

func (c *ControlPlane) run(name, binary string, args ...string) error {
	p, err := start(c.Dir, name, binary, args...)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return err
}

func (c *ControlPlane) waitReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return c.processes[len(c.processes)-1].until(ctx, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// Stop ends all that was started, the last first. Nothing of it is kept.
func (c *ControlPlane) Stop() {
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].stop(2 * time.Second) // an API server with open watches would take a minute
	}
	c.processes = nil
}

func (c *ControlPlane) writeKeys() (err error) {
	if c.Authority, err = NewAuthority("e2e"); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.Dir, "ca.crt"), c.Authority.PEM, 0o600),
		os.WriteFile(filepath.Join(c.Dir, "tokens.csv"), []byte(adminToken+",admin,admin,system:masters\n"), 0o600),
		c.Authority.Issue(c.Dir, "apiserver", pkix.Name{CommonName: "kube-apiserver"}, "127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1"),
		c.Authority.Issue(c.Dir, "serviceaccounts", pkix.Name{CommonName: "serviceaccounts"}),
	)
}

func (c *ControlPlane) writeKubeconfig() error {
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Authority.PEM}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: adminToken}
	config.Contexts["e2e"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: "admin"}
	config.CurrentContext = "e2e"
	return clientcmd.WriteToFile(*config, c.Kubeconfig)
}

// freePorts are ports of loopback that nobody listens on now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // only after all are found, so that they differ
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
