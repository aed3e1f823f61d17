package driverui

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/spark-vitals/spark-vitals/spark"
)

func TestAnswer(t *testing.T) {
	const oom = "<html><body><h2>HTTP ERROR 500 java.lang.OutOfMemoryError: Java heap space</h2></body></html>"
	hijacked := func(serve func(*net.TCPConn)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			connection, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			serve(connection.(*net.TCPConn))
			_ = connection.Close()
		}
	}
	page := func(status int, kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for name, c := range map[string]struct {
		ui   http.HandlerFunc
		want Answer
	}{
		"its application": {page(200, "application/json", `{"id": "spark-1", "attempts": []}`), Data},
		"closes":          {hijacked(func(*net.TCPConn) {}), Nothing},
		"resets":          {hijacked(func(c *net.TCPConn) { _ = c.SetLinger(0) }), Nothing},
		"closes in between": {hijacked(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"id\"")
		}), Nothing},
		"has no memory":       {page(500, "text/html", oom), OutOfMemory},
		"cannot say more":     {page(500, "text/html", ""), Broken},
		"cannot read":         {page(400, "text/html", "<h1>Bad Message 400</h1><pre>reason: Bad Request</pre>"), Broken},
		"a proxy's 400":       {page(400, "text/html", "<html>The plain HTTP request was sent to HTTPS port</html>"), Other},
		"away":                {page(503, "text/html", ""), Other},
		"no other memory":     {page(500, "text/html", "<html>java.lang.OutOfMemoryError: Metaspace</html>"), Other},
		"another error":       {page(500, "text/html", "<html>java.lang.NullPointerException</html>"), Other},
		"a page that is fine": {page(200, "text/html", oom), Other},
		"starts":              {page(200, "text/html", "Spark is starting up. Please wait a while until it's ready."), Other},
		"asks for a login":    {page(401, "text/html", "<html>Who are you?</html>"), Other},
		"leads to TLS": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://10.1.2.3:4440/", http.StatusFound)
		}, Other},
		"no such application": {page(404, "application/json", `{"error": "unknown app"}`), Other},
		"not HTTP":            {hijacked(func(c *net.TCPConn) { _, _ = c.Write([]byte{0x15, 3, 3, 0, 2, 2, 80}) }), Other},
	} {
		if got := serve(t, c.ui).Answer(t.Context(), driver(t)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := New()
	c.address = func(spark.Pod) (netip.AddrPort, bool) {
		return netip.MustParseAddrPort(listener.Addr().String()), true
	}
	_ = listener.Close()
	if got := c.Answer(t.Context(), driver(t)); got != Refused {
		t.Errorf("a closed port: %d", got)
	}
	c.address = func(spark.Pod) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
	if got := c.Answer(t.Context(), driver(t)); got != Unreached {
		t.Errorf("no address: %d", got)
	}
	ended, end := context.WithCancel(t.Context())
	silent := serve(t, func(http.ResponseWriter, *http.Request) { end() })
	if got := silent.Answer(ended, driver(t)); got != Unreached {
		t.Errorf("a question that was ended from here: %d", got)
	}
	for name, c := range map[string]struct {
		err  error
		want Answer
	}{
		"late":          {context.DeadlineExceeded, Nothing},
		"no connection": {&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, Unreached},
	} {
		if got := answerOf(c.err); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
