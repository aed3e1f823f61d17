package driverui

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

// State calls a driver's UI, and again if it does not answer.
func (c *Client) State(ctx context.Context, driver spark.Pod) annotations.UIState {
	address, ok := c.address(driver)
	if !ok {
		return annotations.UIUnknown
	}
	return askTwice(ctx, address, answersWithin)
}

// answersWithin is how long a healthy UI takes at most.
const answersWithin = 10 * time.Second

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
