package driverui

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

func TestAskTwice(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(net.Conn, bool)
		want   annotations.UIState
		silent bool // at first
	}{
		"answers":            {func(c net.Conn, _ bool) { _, _ = io.WriteString(c, "HTTP/1.1 400 No Host\r\n\r\n") }, annotations.UIAnswers, false},
		"closes":             {func(c net.Conn, _ bool) { c.Close() }, annotations.UIAnswers, false},
		"resets":             {func(c net.Conn, _ bool) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() }, annotations.UIAnswers, false},
		"refuses":            {nil, annotations.UIRefuses, false},
		"accepts in silence": {func(net.Conn, bool) {}, annotations.UISilent, true},
		"answers when it has collected its garbage": {func(c net.Conn, again bool) {
			if again {
				c.Close()
			}
		}, annotations.UIAnswers, true},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if c.serve == nil {
				listener.Close()
			} else {
				go func() {
					for again := false; ; again = true {
						connection, err := listener.Accept()
						if err != nil {
							return
						}
						defer connection.Close()
						c.serve(connection, again)
					}
				}()
			}
			timeout := time.Minute // the machine may pause
			if c.silent {
				timeout = 2 * time.Second
			}
			if got := askTwice(t.Context(), netip.MustParseAddrPort(listener.Addr().String()), timeout); got != c.want {
				t.Errorf("it %q, want %q", got, c.want)
			}
		})
	}
}

// Only a driver's own port on its own address is ever dialled.
func TestAddress(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"as Spark declares":  {func(*corev1.Pod) {}, "10.1.2.3:4040"},
		"IPv6":               {func(p *corev1.Pod) { p.Status.PodIP = "fd00::1" }, "[fd00::1]:4040"},
		"the host's network": {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, ""},
		"the host's address": {func(p *corev1.Pod) { p.Status.PodIP = p.Status.HostIP }, ""},
		"loopback":           {func(p *corev1.Pod) { p.Status.PodIP = "127.0.0.1" }, ""},
		"loopback in IPv6":   {func(p *corev1.Pod) { p.Status.PodIP = "::ffff:127.0.0.1" }, ""},
		"metadata service":   {func(p *corev1.Pod) { p.Status.PodIP = "169.254.169.254" }, ""},
		"IPv4 in IPv6":       {func(p *corev1.Pod) { p.Status.PodIP = "::ffff:10.0.0.1" }, ""},
		"NAT64":              {func(p *corev1.Pod) { p.Status.PodIP = "64:ff9b::a9fe:a9fe" }, ""},
		"metadata in IPv6":   {func(p *corev1.Pod) { p.Status.PodIP = "fd00:ec2::254" }, ""},
		"metadata elsewhere": {func(p *corev1.Pod) { p.Status.PodIP = "100.100.100.200" }, ""},
		"this network":       {func(p *corev1.Pod) { p.Status.PodIP = "0.1.2.3" }, ""},
		"a privileged port":  {func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 443 }, ""},
		"a zone":             {func(p *corev1.Pod) { p.Status.PodIP = "fd00::1%eth0" }, ""},
		"a name":             {func(p *corev1.Pod) { p.Status.PodIP = "example.com" }, ""},
		"none yet":           {func(p *corev1.Pod) { p.Status.PodIP = "" }, ""},
		"no port":            {func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil }, ""},
	} {
		p := driver(t).Pod
		c.change(p)
		pod, err := spark.PodOf(p)
		if err != nil {
			t.Fatal(err)
		}
		address, ok := Address(pod)
		if ok != (c.want != "") || ok && address.String() != c.want {
			t.Errorf("%s: %s", name, address)
		}
	}
}
