package stories

import (
	"errors"
	"net"
	"sync"
	"time"
)

// sockets of a client that can be cut off: nothing is said to the other side but
// what the kernel says.
type sockets struct {
	mu   sync.Mutex
	gone bool
	open []net.Conn
}

func (s *sockets) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errors.New("cut off")
	}
	connection, err := net.DialTimeout(network, address, timeout)
	if err == nil {
		s.open = append(s.open, connection)
	}
	return connection, err
}

func (s *sockets) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for _, connection := range s.open {
		connection.Close()
	}
}
