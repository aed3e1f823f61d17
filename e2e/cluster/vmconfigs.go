package cluster

// vmConfigs returns the configuration files of a virtual machine. qemu's network is
// always the same.
var vmConfigs = map[string]string{
	// The first process: no systemd, which would take minutes in software to
	// start what is not needed. The machine ends with it.
	"init": `#!/bin/sh -e
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
touch /etc/hosts
modprobe virtio_net
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
containerd --config /e2e/containerd.toml &
until ctr version >/dev/null 2>&1; do sleep 1; done
for image in /e2e/*.tar; do ctr -n k8s.io images import $image; done
/e2e/node kubelet --config=/e2e/kubelet.yaml --kubeconfig=/e2e/kubeconfig --hostname-override={{.VM.Name}} --node-ip=10.0.2.15
`,

	"containerd.toml": `
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Pause}}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "/e2e/cni"
`,

	// Never used, and a node without a network of its pods is not ready.
	"cni/none.conflist": `{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}`,

	"kubelet.yaml": `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
singleProcessOOMKill: {{.VM.SingleProcessOOMKill}}
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
registerWithTaints: [{key: cgroup, value: v2, effect: NoSchedule}]
evictionHard: {memory.available: 50Mi}
`,
}
