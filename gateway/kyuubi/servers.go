package kyuubi

import (
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

// servers as they are now, with the credentials as they are now; done closes the
// connections. Nothing is kept between releases.
func (k *Kyuubi) servers(ctx context.Context) (servers []server, done func(), err error) {
	bases, err := k.bases(ctx)
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
	for _, base := range bases {
		servers = append(servers, server{base, client, authorization, secretsOf(authorization), &k.refused})
	}
	return servers, done, nil
}

// bases of the servers' addresses. Endpoints that are not ready are servers too:
// they have sessions.
func (k *Kyuubi) bases(ctx context.Context) (bases []string, err error) {
	service := k.config.Servers.Service
	if service == nil {
		for _, url := range k.config.Servers.URLs {
			bases = append(bases, strings.TrimSuffix(url, "/"))
		}
		return bases, nil
	}
	var list discoveryv1.EndpointSliceList
	if err := k.slices.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name}); err != nil {
		return nil, fmt.Errorf("listing the servers of Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	scheme := "http://"
	if k.config.Servers.TLS != nil {
		scheme = "https://"
	}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if len(endpoint.Addresses) > 0 { // the first; the others mean the same
				bases = append(bases, scheme+net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(service.Port))))
			}
		}
	}
	slices.Sort(bases)
	return slices.Compact(bases), nil
}

func (s Servers) transport() (http.RoundTripper, func(), error) {
	t := &http.Transport{ // no proxy: credentials go to the servers alone
		DialContext:            (&net.Dialer{Timeout: seconds(s.TimeoutSeconds)}).DialContext,
		TLSHandshakeTimeout:    seconds(s.TimeoutSeconds),
		MaxResponseHeaderBytes: 64 << 10,
	}
	if s.TLS == nil {
		return t, t.CloseIdleConnections, nil
	}
	t.TLSClientConfig = &tls.Config{ServerName: s.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if s.TLS.CAFile != "" {
		authorities, err := os.ReadFile(s.TLS.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("reading servers.tls.caFile: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, nil, fmt.Errorf("servers.tls.caFile: %s holds no certificate in PEM", s.TLS.CAFile)
		}
	}
	return t, t.CloseIdleConnections, nil
}

// authorization is the header's value; "" for none.
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

// readSecret reads a file without the end of its last line; "" where no file is named.
func readSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	return strings.TrimRight(string(data), "\r\n"), err
}

// Configuration is a digest of all files that are read anew.
func (k *Kyuubi) Configuration() string {
	sum := sha256.New()
	for _, file := range k.config.files() {
		data, err := os.ReadFile(file)
		fmt.Fprintf(sum, "%q %q %v\n", file, data, err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (c *Config) files() (files []string) {
	if c.ZooKeeper != nil {
		files = append(files, c.ZooKeeper.DigestFile)
	}
	if t := c.Servers.TLS; t != nil {
		files = append(files, t.CAFile)
	}
	if b := c.Servers.Basic; b != nil {
		files = append(files, b.UserFile, b.PasswordFile)
	}
	if b := c.Servers.Bearer; b != nil {
		files = append(files, b.TokenFile)
	}
	return slices.DeleteFunc(files, func(file string) bool { return file == "" })
}
