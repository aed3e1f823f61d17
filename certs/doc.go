// Package certs keeps the webhook's certificate if nothing else does: in one Secret,
// with its own CA that is valid for ten years. The CA's certificate, without a key, is
// also in a ConfigMap. The account that keeps them may read and write only these two
// objects.
//
// Certificates are renewed long before they expire, and the CA stays. So the webhook
// configurations need its certificate only once: [Trust] writes it. A hook of the
// installation runs it, and its right on the configurations ends with the hook. It
// reads the ConfigMap, so it sees no key.
package certs

// Keys of the Secret. The webhook mounts [CertKey] and [KeyKey] alone. The
// ConfigMap has [CAKey].
const (
	CAKey    = "ca.crt"
	CAKeyKey = "ca.key"
	CertKey  = "tls.crt"
	KeyKey   = "tls.key"
)
