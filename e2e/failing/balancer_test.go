package failing

import (
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// balancer stands in for a Service and kube-proxy. It forwards a new connection to one
// of the webhooks that were ready at the last check, in turn. Open connections stay
// where they are.
type balancer struct {
	url string

	mu    sync.Mutex
	all   []*cluster.Webhook
	ready []string // addresses
	next  int
	open  map[*net.TCPConn]chan struct{} // by the caller's end; closed when it has gone
}

const askEvery = time.Second // as a readiness probe does

func balance(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{url: "https://" + listener.Addr().String(), open: map[*net.TCPConn]chan struct{}{}}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go b.forward(from.(*net.TCPConn))
		}
	}()
	asking := time.NewTicker(askEvery)
	t.Cleanup(asking.Stop)
	go func() {
		for {
			select {
			case <-asking.C:
				b.ask(t)
			case <-t.Context().Done():
				return
			}
		}
	}()
	return b
}

// add adds a webhook that is ready.
func (b *balancer) add(w *cluster.Webhook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, w)
	b.ready = append(b.ready, w.URL[len("https://"):])
}

func (b *balancer) ask(t *testing.T) {
	var ready []string
	b.mu.Lock()
	all := slices.Clone(b.all)
	b.mu.Unlock()
	for _, w := range all {
		if w.Ready(t.Context()) == nil {
			ready = append(ready, w.URL[len("https://"):])
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

// inTurn returns the addresses of the ready webhooks, with another one first each time.
func (b *balancer) inTurn() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return nil
	}
	b.next++
	first := b.next % len(b.ready)
	return slices.Concat(b.ready[first:], b.ready[:first])
}

// forward forwards a connection to the next webhook if one refuses it, as a cluster
// does soon after a container has ended.
func (b *balancer) forward(from *net.TCPConn) {
	gone := make(chan struct{})
	b.mu.Lock()
	b.open[from] = gone
	b.mu.Unlock()
	defer func() {
		from.Close()
		b.mu.Lock()
		delete(b.open, from)
		b.mu.Unlock()
		close(gone)
	}()
	for _, address := range b.inTurn() {
		to, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		defer to.Close()
		go func() {
			_, _ = io.Copy(to, from)
			to.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(from, to)
		return
	}
}

// dismiss closes all connections to the callers, which are idle, and waits until they
// have noticed. Their next calls use new connections.
func (b *balancer) dismiss() {
	b.mu.Lock()
	open := maps.Clone(b.open)
	b.mu.Unlock()
	for from, gone := range open {
		_ = from.CloseWrite()
		<-gone
	}
}
