package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Linux gives the connections that go out ports from 32768 on, unless it is told
// otherwise (net.ipv4.ip_local_port_range). Who ended and is to start again would
// now and then find its port taken by one of them.
const firstPort, lastPort = 20000, 32767

// FreeAddress of loopback, "host:port": nobody listens there now.
func FreeAddress() (string, error) {
	listener, err := listenSomewhere()
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// freePorts are ports of loopback that nobody listens on now.
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
