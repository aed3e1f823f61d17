package kyuubi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// servers returns the current servers, with the current credentials. done closes the
// connections. Nothing is kept between releases.
func (k *Kyuubi) servers(ctx context.Context) (servers []server, done func(), err error) {
	servers, err = k.bases(ctx)
	if err != nil {
		return nil, nil, err
	}
	transport, done, err := k.transport()
	if err != nil {
		return nil, nil, err
	}
	authorization, err := k.config.Servers.authorization()
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{
		Transport:     transport,
		Timeout:       seconds(k.config.Servers.TimeoutSeconds),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for i := range servers {
		s := &servers[i]
		s.client, s.authorization, s.secrets, s.refused = client, authorization, secretsOf(authorization), &k.refused
	}
	return servers, done, nil
}

// managed is the label value of Kubernetes' own controller. A slice of anyone else may
// name any address.
const managed = "endpointslice-controller.k8s.io"

// bases returns the servers with only their names and addresses. An endpoint that is
// not ready is a server too, because it has sessions. An endpoint that is ending and
// does not serve is left out.
func (k *Kyuubi) bases(ctx context.Context) (servers []server, err error) {
	service := k.config.Servers.Service
	if service == nil {
		for _, url := range k.config.Servers.URLs {
			base := strings.TrimSuffix(url, "/")
			servers = append(servers, server{name: base, base: base})
		}
		return servers, nil
	}
	var list discoveryv1.EndpointSliceList
	if err := k.slices.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: managed}); err != nil {
		return nil, fmt.Errorf("listing the servers of Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	scheme := "http://"
	if k.config.Servers.TLS != nil {
		scheme = "https://"
	}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			pod, is := endpoint.TargetRef, endpoint.Conditions
			ended := is.Terminating != nil && *is.Terminating && is.Serving != nil && !*is.Serving
			if slice.AddressType == discoveryv1.AddressTypeFQDN || pod == nil || pod.Kind != "Pod" || pod.Namespace != service.Namespace || ended || len(endpoint.Addresses) == 0 {
				continue
			}
			servers = append(servers, server{ // the first address; the others lead to the same pod
				name:    pod.Name + " " + string(pod.UID),
				base:    scheme + net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(service.Port))),
				unready: is.Ready != nil && !*is.Ready,
			})
		}
	}
	slices.SortFunc(servers, func(a, b server) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.base, b.base)) })
	return slices.CompactFunc(servers, func(a, b server) bool { return a.name == b.name }), nil // one address of each will do
}

func (s Servers) transport() (http.RoundTripper, func(), error) {
	t := &http.Transport{ // no proxy: credentials go to the servers alone
		DialContext:            (&net.Dialer{Timeout: seconds(s.TimeoutSeconds) / 2}).DialContext, // less than the call's, so the error is that of the dial
		TLSHandshakeTimeout:    seconds(s.TimeoutSeconds),
		MaxResponseHeaderBytes: 64 << 10,
	}
	if s.TLS == nil {
		return t, t.CloseIdleConnections, nil
	}
	config, err := s.TLS.config("servers.tls")
	t.TLSClientConfig = config
	return t, t.CloseIdleConnections, err
}

// config returns the configuration of a client, from the current files.
func (t *TLS) config(at string) (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		authorities, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s.caFile: %w", at, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("%s.caFile: %s has no certificate in PEM", at, t.CAFile)
		}
	}
	if t.CertFile != "" {
		own, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s.certFile and keyFile: %w", at, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// authorization returns the header's value, or "" for none.
func (s Servers) authorization() (string, error) {
	switch {
	case s.Basic != nil:
		user, err := readSecret(s.Basic.UserFile)
		if err != nil {
			return "", fmt.Errorf("reading servers.basic.userFile: %w", err)
		}
		password, err := readSecret(s.Basic.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("reading servers.basic.passwordFile: %w", err)
		}
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), nil
	case s.Bearer != nil:
		token, err := readSecret(s.Bearer.TokenFile)
		if err != nil {
			return "", fmt.Errorf("reading servers.bearer.tokenFile: %w", err)
		}
		return "Bearer " + token, nil
	}
	return "", nil
}

// readSecret reads a file without its last line break. It returns "" if no file is
// named.
func readSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	return strings.TrimRight(string(data), "\r\n"), err
}

// Configuration returns a digest of all files that are read again for each release.
func (k *Kyuubi) Configuration() string {
	sum := sha256.New()
	for _, file := range k.config.files() {
		data, err := os.ReadFile(file)
		fmt.Fprintf(sum, "%q %q %v\n", file, data, err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (c *Config) files() (files []string) {
	files = append(files, c.ZooKeeper.DigestFile)
	for _, t := range []*TLS{c.ZooKeeper.TLS, c.Servers.TLS} {
		if t != nil {
			files = append(files, t.CAFile, t.CertFile, t.KeyFile)
		}
	}
	if b := c.Servers.Basic; b != nil {
		files = append(files, b.UserFile, b.PasswordFile)
	}
	if b := c.Servers.Bearer; b != nil {
		files = append(files, b.TokenFile)
	}
	return slices.DeleteFunc(files, func(file string) bool { return file == "" })
}
