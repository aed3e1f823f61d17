package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Serving describes the certificate that is wanted.
type Serving struct {
	Hosts       []string // DNS names and IP addresses
	Duration    time.Duration
	RenewBefore time.Duration // how long before its expiry it is renewed
}

// Check returns what is wrong with it, and names the flag.
func (s Serving) Check() error {
	switch {
	case len(s.Hosts) == 0:
		return errors.New("--host: name the webhook's Service, such as webhook.spark-vitals.svc")
	case s.Duration <= 0 || s.Duration > longest:
		return fmt.Errorf("--duration is %s; it must be above 0 and at most 4000h, so that the alert on the CA's expiry comes before a new CA", s.Duration)
	case s.RenewBefore <= 0 || s.RenewBefore >= s.Duration:
		return fmt.Errorf("--renew-before is %s; it must be shorter than --duration, %s", s.RenewBefore, s.Duration)
	}
	return nil
}

const (
	skew = time.Hour // between the clocks of machines

	// longest is the longest life of a certificate. When the old CA has less than that
	// left, a new one is made, which no one trusts yet. The alert comes 180 days
	// before its end.
	longest = 4000 * time.Hour
)

// renewed returns the Secret's content as it should be at a time, and why it is not,
// or "" if it is. A CA that is good for all of a certificate's life stays.
func (s Serving) renewed(data map[string][]byte, now time.Time) (want map[string][]byte, why string, err error) {
	want = map[string][]byte{}
	for key, value := range data {
		want[key] = value
	}
	ca, problem := readPair(want[CAKey], want[CAKeyKey])
	if problem == nil && now.Add(s.Duration).After(ca.Leaf.NotAfter) {
		problem = errors.New("it expires at " + ca.Leaf.NotAfter.String())
	}
	if problem != nil {
		why = fmt.Sprintf("a new CA, because of the old one %s; ", problem)
		if ca, want[CAKey], want[CAKeyKey], err = newCA(now); err != nil {
			return nil, why, err
		}
	}
	if problem := s.judge(want, ca.Leaf, now); problem != nil {
		why += fmt.Sprintf("a new certificate, because of the old one %s", problem)
		want[CertKey], want[KeyKey], err = s.issue(ca, now)
	}
	return want, why, err
}

// judge returns why a certificate must be renewed, or nil.
func (s Serving) judge(data map[string][]byte, ca *x509.Certificate, now time.Time) error {
	pair, err := readPair(data[CertKey], data[KeyKey])
	if err != nil {
		return err
	}
	if !now.Before(pair.Leaf.NotAfter.Add(-s.RenewBefore)) {
		return errors.New("it expires at " + pair.Leaf.NotAfter.String())
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, host := range s.Hosts {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now}); err != nil {
			return err
		}
	}
	return nil
}

var errMissing = errors.New("there is none")

func readPair(certificate, key []byte) (tls.Certificate, error) {
	if len(certificate) == 0 && len(key) == 0 {
		return tls.Certificate{}, errMissing
	}
	return tls.X509KeyPair(certificate, key)
}

func newCA(now time.Time) (pair tls.Certificate, certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, nil, nil, err
	}
	made, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: "spark-vitals", NotBefore: now.Add(-skew)}, private)
	if err != nil {
		return pair, nil, nil, err
	}
	if certificate, key, err = encode(made.Raw, private); err != nil {
		return pair, nil, nil, err
	}
	pair, err = tls.X509KeyPair(certificate, key)
	return pair, certificate, key, err
}

func (s Serving) issue(ca tls.Certificate, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{ // without a serial number Go makes one
		Subject:     pkix.Name{CommonName: "spark-vitals webhook"},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(s.Duration),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range s.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, private.Public(), ca.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return encode(der, private)
}

func encode(der []byte, private crypto.PrivateKey) (certificate, key []byte, err error) {
	key, err = keyutil.MarshalPrivateKeyToPEM(private)
	return pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der}), key, err
}
