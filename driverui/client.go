package driverui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Limits of a question.
const (
	// Timeout is how long a question takes at most. The first one of a driver has taken
	// more than 5 s, because the driver then starts its REST service.
	Timeout = 15 * time.Second
	// maxAnswer is in bytes, unpacked. An executor takes some 2 kB, so it suffices for
	// 10,000. A driver logs an error of 100 lines if an answer is not read to its end, so
	// nothing that is healthy comes near.
	maxAnswer = 32 << 20
	// maxToken is how many bytes of an answer are kept at a time.
	maxToken = 1 << 20
	// maxElements is how many parts of an answer are kept.
	maxElements = 1024
	// maxText is how many bytes of a name or a line are kept.
	maxText = 256
)

// ErrNoAddress means that a pod has no UI at its own address.
var ErrNoAddress = errors.New("the pod declares no UI at its own address")

// Address returns the address of a driver's UI: the port that it declares, on its own
// address from the kubelet. A pod on the host's network has no address of its own, so
// its port may belong to another program. A user who can write a pod's status can name
// another address, but not one of this process's own host.
func Address(pod spark.Pod) (netip.AddrPort, bool) {
	port, declared := pod.Port(spark.UIPort)
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	own := declared && port > 0 && err == nil && ip.Zone() == "" && !pod.Spec.HostNetwork && pod.Status.PodIP != pod.Status.HostIP && ip.Unmap().IsGlobalUnicast()
	return netip.AddrPortFrom(ip, uint16(port)), own
}

// Client asks drivers' UIs. Make one with [New].
type Client struct {
	http    *http.Client
	address func(spark.Pod) (netip.AddrPort, bool)
}

// New returns a client.
func New() *Client {
	return &Client{address: Address, http: &http.Client{
		Transport: &http.Transport{ // has no proxy, and so reads no variables
			DialContext:            (&net.Dialer{Timeout: Timeout}).DialContext,
			DisableKeepAlives:      true, // a driver has few threads for its UI
			MaxResponseHeaderBytes: 16 << 10,
			Protocols:              onlyHTTP1(),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// ask asks a driver for a path below its application, and reads the answer. The driver
// packs it with gzip: 10,000 executors are then 0.2 MB instead of 18. Do not end the
// context before [Timeout] without need: see maxAnswer.
func (c *Client) ask(ctx context.Context, driver spark.Pod, path string, read func(*jsontext.Decoder) error) error {
	address, ok := c.address(driver)
	if !ok {
		return ErrNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	at := url.URL{Scheme: "http", Host: address.String(), Path: "/api/v1/applications/" + driver.Application() + path}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: the driver's UI answers %d", path, response.StatusCode)
	}
	if err := read(decode(response.Body)); err != nil {
		return fmt.Errorf("%s: the driver's UI answers something else: %w", path, err)
	}
	return nil
}

// decode returns a decoder of JSON from another user's program.
func decode(from io.Reader) *jsontext.Decoder {
	bounded := &reader{from: from}
	bounded.to = jsontext.NewDecoder(bounded, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return bounded.to
}

// reader bounds what a decoder reads, in all and of one token.
type reader struct {
	from io.Reader
	read int64
	to   *jsontext.Decoder
}

var (
	errLong  = fmt.Errorf("it has more than %d bytes", maxAnswer)
	errToken = fmt.Errorf("a part has more than %d bytes", maxToken)
)

func (r *reader) Read(p []byte) (int, error) {
	if r.read >= maxAnswer {
		return 0, errLong
	}
	if r.read-r.to.InputOffset() > maxToken {
		return 0, errToken
	}
	n, err := r.from.Read(p[:min(len(p), maxToken)])
	r.read += int64(n)
	return n, err
}
