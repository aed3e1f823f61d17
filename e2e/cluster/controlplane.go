// Package cluster runs a real Kubernetes on this machine, from binaries linked
// out of Kubernetes' own Go modules: no container registry, no docker.
// [StartControlPlane] starts an API server alone, [Up] one with a node.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// ControlPlane is a running etcd and kube-apiserver without nodes, which is enough for
// admission.
type ControlPlane struct {
	// Dir holds everything of the cluster: keys, data and logs.
	Dir       string
	Authority *Authority
	// Config and Client have all rights.
	Config     *rest.Config
	Client     kubernetes.Interface
	Kubeconfig string // a file with the same
	Etcd       string // the URL of etcd
	token      string // with all rights
	detached   bool
	processes  []*process
}

// WithControlPlane runs a function with a control plane in a temporary folder.
func WithControlPlane(ctx context.Context, progress io.Writer, do func(*ControlPlane) error) error {
	dir, err := os.MkdirTemp("", "spark-vitals-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := StartControlPlane(ctx, dir, progress)
	if err != nil {
		return err
	}
	defer c.Stop()
	return do(c)
}

// settings of a control plane.
type settings struct {
	ip    string // that the API server listens on
	ports [3]int // etcd's clients and peers, the API server
	flags []string
}

// StartControlPlane starts etcd and kube-apiserver in a folder, on free ports of
// loopback, and waits until they are ready. They end with this process.
func StartControlPlane(ctx context.Context, dir string, progress io.Writer) (*ControlPlane, error) {
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{Dir: dir}
	return c, c.start(ctx, settings{ip: "127.0.0.1", ports: ports, flags: []string{"--authorization-mode=RBAC", "--endpoint-reconciler-type=none"}}, progress)
}

func (c *ControlPlane) start(ctx context.Context, s settings, progress io.Writer) (err error) {
	binary, err := Build(ctx, "e2e/kubernetes/controlplane", "controlplane", progress)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	c.token = rand.Text() // a process that reaches the port must not get all rights
	if err := c.writeKeys(s.ip); err != nil {
		return fmt.Errorf("making the cluster's keys: %w", err)
	}
	c.Kubeconfig = filepath.Join(c.Dir, "kubeconfig")
	admin := &rest.Config{Host: fmt.Sprintf("https://%s:%d", s.ip, s.ports[2]), BearerToken: c.token, TLSClientConfig: rest.TLSClientConfig{CAData: c.Authority.PEM}}
	if err := errors.Join(writeKubeconfig(c.Kubeconfig, admin), c.connect()); err != nil {
		return err
	}
	c.Etcd = fmt.Sprintf("http://127.0.0.1:%d", s.ports[0])
	if err := c.run("etcd", binary, "etcd", "--data-dir=etcd", "--listen-client-urls="+c.Etcd, "--advertise-client-urls="+c.Etcd,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", s.ports[1]), "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	if err := c.run("kube-apiserver", binary, append([]string{
		"kube-apiserver", "--etcd-servers=" + c.Etcd,
		"--bind-address=" + s.ip, "--advertise-address=" + s.ip, fmt.Sprintf("--secure-port=%d", s.ports[2]),
		"--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt",
		"--service-account-key-file=serviceaccounts.key", "--service-account-signing-key-file=serviceaccounts.key",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file=tokens.csv", "--allow-privileged",
	}, s.flags...)...); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

func (c *ControlPlane) run(name, binary string, args ...string) error {
	p, err := start(c.Dir, name, c.detached, binary, args...)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return err
}

func (c *ControlPlane) last() *process { return c.processes[len(c.processes)-1] }

func (c *ControlPlane) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.last().until(ctx, c.ready)
}

func (c *ControlPlane) ready(ctx context.Context) error {
	return c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// Stop ends everything that was started, the last first.
func (c *ControlPlane) Stop() {
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].stop(2 * time.Second) // an API server with open watches would take a minute
	}
	c.processes = nil
}

func (c *ControlPlane) writeKeys(ip string) (err error) {
	if c.Authority, err = NewAuthority("e2e"); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.Dir, "ca.crt"), c.Authority.PEM, 0o600),
		os.WriteFile(filepath.Join(c.Dir, "tokens.csv"), []byte(c.token+",admin,admin,system:masters\n"), 0o600),
		c.Authority.Issue(c.Dir, "apiserver", pkix.Name{CommonName: "kube-apiserver"}, ip, "127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1"),
		c.Authority.Issue(c.Dir, "kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}}),
		c.Authority.Issue(c.Dir, "serviceaccounts", pkix.Name{CommonName: "serviceaccounts"}),
	)
}
