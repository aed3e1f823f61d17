// Package loopback serves connections to tests.
package loopback

import (
	"net"
	"testing"
)

// Serve handles the connections to a port of loopback until the test ends, and returns
// the port. Without a function nothing listens there.
func Serve(t *testing.T, serve func(net.Conn)) (port int) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = listener.Addr().(*net.TCPAddr).Port
	if serve == nil {
		_ = listener.Close()
		return port
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(connection)
		}
	}()
	return port
}
