// Package certs keeps the webhook's certificate where nothing else does: in one
// Secret, with a CA of its own that is good for ten years. The CA's certificate,
// without a key, stands in a ConfigMap besides. The account that keeps them may
// read and write these two objects and nothing else.
//
// Certificates are made anew long before they expire, and the CA stays, so the
// webhook configurations need to learn of it once: [Trust] does it, run by a
// hook of the installation, whose right on them ends with it. It reads the
// ConfigMap, so it sees no key.
package certs

// Keys of the Secret. The webhook mounts [CertKey] and [KeyKey] alone. The
// ConfigMap has [CAKey].
const (
	CAKey    = "ca.crt"
	CAKeyKey = "ca.key"
	CertKey  = "tls.crt"
	KeyKey   = "tls.key"
)
