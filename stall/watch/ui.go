package watch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// uiOf returns the address of a driver's UI: the port that it declares, on its own
// address from the kubelet. A pod on the host's network has no address of its own, so
// its port may belong to another program. A user who can write a pod's status can name
// another address, but not one of this process's own host.
func uiOf(pod spark.Pod) (netip.AddrPort, bool) {
	port, declared := pod.Port(spark.UIPort)
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	own := declared && port > 0 && err == nil && ip.Zone() == "" && !pod.Spec.HostNetwork && pod.Status.PodIP != pod.Status.HostIP && ip.Unmap().IsGlobalUnicast()
	return netip.AddrPortFrom(ip, uint16(port)), own
}

// askTwice calls a UI again if it does not answer, so that a JVM in a garbage
// collection does not count as one that hangs. If the UI does not answer and then
// accepts no connection, its backlog is full.
func askTwice(ctx context.Context, address netip.AddrPort, timeout time.Duration) annotations.UIState {
	ui := askUI(ctx, address, timeout)
	if ui == annotations.UISilent {
		if again := askUI(ctx, address, timeout); again != annotations.UIUnknown {
			return again
		}
	}
	return ui
}

// askUI calls a UI as the liveness probe does. The parser answers a request without a
// Host header, so no page is made and no filter runs. A connection that is refused or
// closed is healthy. A connection that fails in another way shows nothing: a
// NetworkPolicy may forbid it.
func askUI(ctx context.Context, address netip.AddrPort, timeout time.Duration) annotations.UIState {
	dialer := net.Dialer{Timeout: timeout}
	connection, err := dialer.DialContext(ctx, "tcp", address.String())
	if errors.Is(err, syscall.ECONNREFUSED) {
		return annotations.UIRefuses
	}
	if errors.Is(err, syscall.ECONNRESET) { // it was accepted before
		return annotations.UIAnswers
	}
	if err != nil {
		return annotations.UIUnknown
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(timeout))
	if _, err = io.WriteString(connection, "GET / HTTP/1.1\r\n\r\n"); err == nil {
		_, err = connection.Read(make([]byte, 1))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return annotations.UISilent
	}
	return annotations.UIAnswers
}
