package driverui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
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
	// dialTimeout is for the connection. If a NetworkPolicy drops the packets, nothing comes
	// back.
	dialTimeout = 2 * time.Second
	// maxToken is how many bytes of an answer are kept at a time, and maxSetting how many
	// of the settings, which may have long values.
	maxToken, maxSetting = 64 << 10, 1 << 20
	// maxPage is how many bytes are read of an error page, which has a stack trace.
	maxPage = 256 << 10
	// maxElements is how many parts of an answer are kept.
	maxElements = 1024
	// maxText is how many bytes of a name or a line are kept.
	maxText = 256
)

// ErrNoAddress means that a pod has no UI at its own address.
var ErrNoAddress = errors.New("the pod declares no UI at its own address")

var (
	errOutOfMemory = errors.New("its error page says that the heap is full")
	errBroken      = errors.New("it cannot say why")
)

// Address returns the address of a driver's UI: the port that it declares, on its own
// address from the kubelet. A pod on the host's network has no address of its own, so
// its port may belong to another program. A user who can write a pod's status can name
// another address, but not one of this process's own host.
func Address(pod spark.Pod) (netip.AddrPort, bool) {
	port, declared := pod.Port(spark.UIPort)
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	host, _ := netip.ParseAddr(pod.Status.HostIP)
	own := declared && port >= 1024 && err == nil && !pod.Spec.HostNetwork && ip != host && isPods(ip)
	return netip.AddrPortFrom(ip, uint16(port)), own
}

// notPods are addresses that no pod has, but that look like those of one: "this"
// network, IPv4 in IPv6 (RFC 4291, RFC 6052), and services of clouds for their machines.
var notPods = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("100.100.100.200/32"),
}

func isPods(ip netip.Addr) bool {
	return ip.Zone() == "" && !ip.Is4In6() && ip.IsGlobalUnicast() && !slices.ContainsFunc(notPods, func(p netip.Prefix) bool { return p.Contains(ip) })
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
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
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

// ask asks a driver for what stands at a path below its application, as JSON. token is
// how many bytes of it are kept at a time.
func (c *Client) ask(ctx context.Context, driver spark.Pod, path string, token int64, read func(*jsontext.Decoder) error) error {
	at := url.URL{Path: "/api/v1/applications/" + driver.Application() + path}
	return c.get(ctx, driver, at, "application/json", func(from io.Reader) error { return read(decode(from, token)) })
}

// get reads what a driver's UI has at a path. The driver packs it with gzip: 10,000
// executors are then 0.2 MB instead of 18. Do not end the context before [Timeout] without
// need: see maxAnswer.
func (c *Client) get(ctx context.Context, driver spark.Pod, at url.URL, kind string, read func(io.Reader) error) (err error) {
	defer func() {
		if mistake := recover(); mistake != nil { // it must not affect other applications
			err = fmt.Errorf("%s: a bug in spark-vitals: %v", at.Path, mistake)
		}
	}()
	address, ok := c.address(driver)
	if !ok {
		return ErrNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	at.Scheme, at.Host = "http", address.String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", kind)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		page, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
		switch {
		case response.StatusCode == http.StatusInternalServerError && namesFullHeap(page):
			err = errOutOfMemory
		case isBroken(response.StatusCode, page):
			err = errBroken
		}
		return errors.Join(fmt.Errorf("%s: the driver's UI answers %d", at.Path, response.StatusCode), err)
	}
	if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, kind) {
		return fmt.Errorf("%s: the driver's UI answers %q; it may be starting", at.Path, bounded.Cut(got, maxText))
	}
	if err := read(response.Body); err != nil {
		return fmt.Errorf("%s: the driver's UI answers something else: %w", at.Path, err)
	}
	return nil
}

// decode returns a decoder of a stranger's JSON.
func decode(from io.Reader, maxToken int64) *jsontext.Decoder {
	r := &reader{from: from, maxToken: maxToken}
	r.to = jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return r.to
}

// reader bounds what a decoder reads, in all and of one token.
type reader struct {
	from           io.Reader
	read, maxToken int64
	to             *jsontext.Decoder
}

var (
	errLong  = fmt.Errorf("it has more than %d bytes", maxAnswer)
	errToken = errors.New("a part of it is too long")
)

func (r *reader) Read(p []byte) (int, error) {
	if r.read >= maxAnswer {
		return 0, errLong
	}
	if r.read-r.to.InputOffset() > r.maxToken {
		return 0, errToken
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.maxToken)])
	r.read += int64(n)
	return n, err
}

// isBroken reports whether an answer is none of Spark's and of no filter's: an error
// without its page, or the parser's about a request, and all requests here are well-formed.
// A UI with an exhausted heap answers so now and then.
func isBroken(status int, page []byte) bool {
	return status == http.StatusInternalServerError && len(page) == 0 ||
		status == http.StatusBadRequest && bytes.Contains(page, []byte("Bad Message 400"))
}

// namesFullHeap reports whether a page says that the heap is full. More heap does not
// help against other OutOfMemoryErrors, such as that of Metaspace or of threads.
func namesFullHeap(page []byte) bool {
	return bytes.Contains(page, []byte("java.lang.OutOfMemoryError: Java heap space")) ||
		bytes.Contains(page, []byte("java.lang.OutOfMemoryError: GC overhead limit exceeded"))
}
