package kyuubitest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
)

// Network carries calls to servers by their host, without sockets. It is much faster,
// and works with synthetic time.
type Network map[string]*Server

// RoundTrip calls the server of the request's host.
func (n Network) RoundTrip(r *http.Request) (response *http.Response, err error) {
	server, ok := n[r.URL.Host]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", r.URL.Host, syscall.ECONNREFUSED)}
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // a panic with this very value
				panic(p)
			}
			response, err = nil, io.EOF
		}
	}()
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}
