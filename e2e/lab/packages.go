package lab

// What a node and its images need of Debian: a program, or a folder, that tells
// whether it is there, and the package that brings it.
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
