package cluster

// PodCIDR is the range of the pods' addresses.
const PodCIDR = "10.244.0.0/16"

// PauseImage is the image of every pod's sandbox.
const PauseImage = "localhost/e2e/pause:1"

// configs returns the configuration files of a node.
var configs = map[string]string{
	"cni/10-bridge.conflist": `{
  "cniVersion": "0.4.0", "name": "pods",
  "plugins": [{"type": "bridge", "bridge": "` + bridge + `", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": {"type": "host-local", "dataDir": "{{.Dir}}/ipam", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]
}`,

	// Images are kept between clusters, state is not. A machine without
	// CAP_SYS_RESOURCE cannot lower an OOM score, nor need it have hugetlb.
	"containerd.toml": `
version = 2
root = "{{.Dir}}/../containerd"
state = "{{.Dir}}/containerd"
[grpc]
  address = "{{.Dir}}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  sandbox_image = "{{.Pause}}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{{.Dir}}/cni"
`,

	"Corefile": `
.:53 {
    bind {{.IP}}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig {{.Dir}}/kubeconfig
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`,

	"kube-proxy.yaml": `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: "{{.Dir}}/kubeconfig"}
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
metricsBindAddress: 127.0.0.1:10249
`,

	// A test machine's disk may be fuller than a production node's.
	"kubelet.yaml": `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
failSwapOn: false
address: {{.IP}}
port: 20250
healthzPort: 0
readOnlyPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: "{{.Dir}}/ca.crt"}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://{{.Dir}}/containerd.sock
clusterDNS: ["{{.IP}}"]
clusterDomain: cluster.local
resolvConf: ""
syncFrequency: 5s
registryPullQPS: 0
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
`,
}

// bridge is the network of the pods.
const bridge = "e2e0"
