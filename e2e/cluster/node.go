package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Cluster is a whole Kubernetes with one node: containerd, kubelet, kube-proxy and
// CoreDNS. It continues to run when this process ends; [Down] ends it.
type Cluster struct {
	ControlPlane
	ip string // of this machine, where pods reach the API server
}

// IP of the node, which pods reach.
func (c *Cluster) IP() string { return c.ip }

// The components in the order in which they are started.
var components = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "coredns", "kube-proxy", "kubelet"}

// NodeName is the name of the node.
const NodeName = "node-1"

// Up starts a cluster in a folder, or finds it running there, and waits until
// its node is ready. It needs root and Debian's containerd, runc, iptables and
// containernetworking-plugins.
func Up(ctx context.Context, dir string, progress io.Writer) (*Cluster, error) {
	ip, err := machineIP()
	if err != nil {
		return nil, err
	}
	if c, err := find(ctx, dir); c != nil || err != nil {
		if c != nil {
			c.ip = ip
		}
		return c, err
	}
	if err := Down(ctx, dir); err != nil {
		return nil, fmt.Errorf("clearing away an earlier cluster: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &Cluster{ControlPlane: ControlPlane{Dir: dir, detached: true}, ip: ip}
	if err := c.up(ctx, progress); err != nil {
		return nil, errors.Join(err, Down(context.WithoutCancel(ctx), dir))
	}
	return c, nil
}

// find returns the cluster that runs in a folder, or nil. It does not touch a cluster
// that runs and is not ready, perhaps because it is busy.
func find(ctx context.Context, dir string) (*Cluster, error) {
	_, runs := detached(dir, "kube-apiserver")
	for end := time.Now().Add(time.Minute); runs(); time.Sleep(time.Second) {
		c, err := Find(ctx, dir)
		if err == nil {
			return c, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("the cluster in %s runs and is not ready (%w); end it with: make cluster-down", dir, err)
		}
	}
	return nil, nil
}

// Find returns the cluster that runs in a folder.
func Find(ctx context.Context, dir string) (c *Cluster, err error) {
	c = &Cluster{ControlPlane: ControlPlane{Dir: dir, detached: true, Kubeconfig: filepath.Join(dir, "kubeconfig")}}
	if err := c.connect(); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	return c, c.nodeReady(ctx, NodeName)
}

func (c *Cluster) up(ctx context.Context, progress io.Writer) error {
	if err := c.start(ctx, settings{
		ip:    c.ip,
		ports: [3]int{12379, 12380, 16443},
		flags: []string{
			"--authorization-mode=Node,RBAC", "--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate=kubelet-client.crt", "--kubelet-client-key=kubelet-client.key",
		},
	}, progress); err != nil {
		return err
	}
	node, err := Build(ctx, "e2e/kubernetes/node", "node", progress)
	if err != nil {
		return err
	}
	coredns, err := Build(ctx, "e2e/addons/coredns", "coredns", progress)
	if err != nil {
		return err
	}
	if err := c.writeConfigs(); err != nil {
		return err
	}
	steps := []func() error{
		func() error {
			return c.run("kube-controller-manager", node, "kube-controller-manager", "--kubeconfig=kubeconfig", "--leader-elect=false",
				"--service-account-private-key-file=serviceaccounts.key", "--root-ca-file=ca.crt", "--use-service-account-credentials")
		},
		func() error {
			return c.run("kube-scheduler", node, "kube-scheduler", "--kubeconfig=kubeconfig", "--leader-elect=false")
		},
		func() error { return c.run("containerd", "/usr/bin/containerd", "-c", "containerd.toml") },
		func() error {
			return c.last().until(ctx, c.runtimeServes)
		},
		func() error { return c.run("coredns", coredns, "-conf", "Corefile") },
		func() error {
			return c.run("kube-proxy", node, "kube-proxy", "--config=kube-proxy.yaml", "--hostname-override="+NodeName)
		},
		func() error {
			return c.run("kubelet", node, "kubelet", "--config=kubelet.yaml", "--kubeconfig=kubeconfig", "--hostname-override="+NodeName,
				"--root-dir="+filepath.Join(c.Dir, "kubelet"), "--node-ip="+c.ip)
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.last().until(ctx, func(ctx context.Context) error { return c.nodeReady(ctx, NodeName) }); err != nil {
		return err
	}
	for _, p := range c.processes { // without some of them pods would only wait, and nothing would say for what
		if err := p.running(); err != nil {
			return err
		}
	}
	return nil
}

// runtimeServes asks containerd as the kubelet does, which exits without an answer.
// containerd's own version is available earlier.
func (c *Cluster) runtimeServes(ctx context.Context) error {
	connection, err := grpc.NewClient("unix://"+filepath.Join(c.Dir, "containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	return connection.Invoke(ctx, "/runtime.v1.RuntimeService/Version", &emptypb.Empty{}, &emptypb.Empty{})
}

func (c *Cluster) nodeReady(ctx context.Context, name string) error {
	node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("the node is not ready")
}

// Ctr runs containerd's own client on the images and containers of the node.
func (c *Cluster) Ctr(ctx context.Context, args ...string) error {
	_, err := ctr(ctx, c.Dir, args...)
	return err
}

func ctr(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "ctr", append([]string{"-a", filepath.Join(dir, "containerd.sock"), "-n", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Import imports an image archive to the node.
func (c *Cluster) Import(ctx context.Context, archive string) error {
	return c.Ctr(ctx, "images", "import", archive)
}

// ImageRoot returns the folder of containerd's images, which outlive the cluster.
func (c *Cluster) ImageRoot() string { return filepath.Join(filepath.Dir(c.Dir), "containerd") }

func machineIP() (string, error) {
	connection, err := net.Dial("udp", "192.0.2.1:9") // sends nothing; it asks for the route
	if err != nil {
		return "", fmt.Errorf("finding this machine's address: %w", err)
	}
	defer connection.Close()
	return connection.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

func (c *Cluster) writeConfigs() error {
	if err := os.MkdirAll(filepath.Join(c.Dir, "cni"), 0o755); err != nil {
		return err
	}
	for file, text := range configs {
		var b strings.Builder
		err := template.Must(template.New(file).Parse(text)).Execute(&b, map[string]string{"Dir": c.Dir, "IP": c.ip, "Pause": PauseImage})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.Dir, file), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
