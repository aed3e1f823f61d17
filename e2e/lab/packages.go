package lab

// The Debian packages of a node and its images, each with a program or a folder that
// shows whether the package is installed.
var packages = map[string]string{
	"containerd":          "containerd",
	"runc":                "runc",
	"iptables":            "iptables",
	"/usr/lib/cni/bridge": "containernetworking-plugins",
	"debootstrap":         "debootstrap",
	"conntrack":           "conntrack",
	"ip":                  "iproute2",
	"java":                "openjdk-17-jre-headless",
	"javac":               "openjdk-17-jdk-headless",
	"python3":             "python3",
	"pip":                 "python3-pip",
}
