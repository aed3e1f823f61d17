package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Linux uses ports from 32768 on for outgoing connections by default
// (net.ipv4.ip_local_port_range). A process that restarts would sometimes find its port
// taken by one of them.
const firstPort, lastPort = 20000, 32767

// FreeAddress returns an address of loopback, "host:port", where nothing listens now.
func FreeAddress() (string, error) {
	listener, err := listenSomewhere()
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// freePorts returns ports of loopback where nothing listens now.
func freePorts() (ports [3]int, err error) {
	for i := range ports {
		listener, err := listenSomewhere()
		if err != nil {
			return ports, err
		}
		defer listener.Close() // only after all are found, so that they differ
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func listenSomewhere() (listener net.Listener, err error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("looking for a free port of loopback: %w", err)
}
