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

	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

// uiOf a driver: the port that it declares, on its own address as the kubelet
// reports it. A pod on the host's network has none of its own: its port could be
// anybody's. Whoever can write a pod's status could name another address, but
// none of this process's own host.
func uiOf(pod spark.Pod) (netip.AddrPort, bool) {
	port, declared := pod.Port(spark.UIPort)
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	own := declared && port > 0 && err == nil && ip.Zone() == "" && !pod.Spec.HostNetwork && pod.Status.PodIP != pod.Status.HostIP && ip.Unmap().IsGlobalUnicast()
	return netip.AddrPortFrom(ip, uint16(port)), own
}

// askTwice, so that a JVM that collects its garbage is not taken for one that
// hangs. What says nothing and then takes no connection has a full backlog.
func askTwice(ctx context.Context, address netip.AddrPort, patience time.Duration) stall.UI {
	ui := askUI(ctx, address, patience)
	if ui == stall.IsSilent {
		if again := askUI(ctx, address, patience); again != stall.NotReachable {
			return again
		}
	}
	return ui
}

// askUI as the liveness probe does: a request without a Host header is answered
// by the parser, so no page is made and no filter is asked. A connection that is
// refused or closed is fine, and one that cannot be made tells nothing: it may be
// forbidden by a NetworkPolicy.
func askUI(ctx context.Context, address netip.AddrPort, patience time.Duration) stall.UI {
	dialer := net.Dialer{Timeout: patience}
	connection, err := dialer.DialContext(ctx, "tcp", address.String())
	if errors.Is(err, syscall.ECONNREFUSED) {
		return stall.Refuses
	}
	if errors.Is(err, syscall.ECONNRESET) { // by whom it was accepted
		return stall.Answers
	}
	if err != nil {
		return stall.NotReachable
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err = io.WriteString(connection, "GET / HTTP/1.1\r\n\r\n"); err == nil {
		_, err = connection.Read(make([]byte, 1))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return stall.IsSilent
	}
	return stall.Answers
}
