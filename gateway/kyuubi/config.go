package kyuubi

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/strict"
)

// Config is how to find and call Kyuubi. Use [ParseConfig] to make one. The files that
// it names are read again for each release.
type Config struct {
	// Namespaces are those in which Kyuubi launches engines. Pods elsewhere are
	// ignored.
	Namespaces []string `json:"namespaces"`
	// Way is from version 0.1.0, which had two ways. Only "exact" is left.
	Way       string     `json:"way"`
	ZooKeeper *ZooKeeper `json:"zookeeper"`
	Servers   Servers    `json:"servers"`
	// KeepSessionsSeconds is how long sessions of a dead engine are kept after its
	// registration is removed, so that their clients can read the error. The default is
	// 120; 0 closes them at once.
	KeepSessionsSeconds *int32 `json:"keepSessionsSeconds"`
}

// KeepSessions returns KeepSessionsSeconds as a duration.
func (c *Config) KeepSessions() time.Duration { return seconds(*c.KeepSessionsSeconds) }

// ZooKeeper is the ZooKeeper in which engines are registered.
type ZooKeeper struct {
	Servers []string `json:"servers"` // "host:port"
	// Root is the chroot after the servers in Kyuubi's kyuubi.ha.addresses; "/" by
	// default.
	Root string `json:"root"`
	// Namespace is Kyuubi's kyuubi.ha.namespace; "kyuubi" by default.
	Namespace string `json:"namespace"`
	// DigestFile has "user:password", as in Kyuubi's kyuubi.ha.zookeeper.auth.digest.
	// Without it there is no authentication.
	DigestFile string `json:"digestFile"`
	// TLS is for ZooKeeper's secureClientPort.
	TLS *TLS `json:"tls"`
	// TimeoutSeconds limits a whole deregistration; 5 by default.
	TimeoutSeconds int32 `json:"timeoutSeconds"`
}

// Servers are Kyuubi's REST front-ends. Each is named, because one address for all is
// not enough.
type Servers struct {
	// Service is a headless Service. Its EndpointSlices name each server. The
	// alternative is URLs.
	Service *Service `json:"service"`
	URLs    []string `json:"urls"`
	TLS     *TLS     `json:"tls"`
	Basic   *Basic   `json:"basic"`
	Bearer  *Bearer  `json:"bearer"`
	// Insecure allows credentials without TLS for the servers of a Service, which are
	// all pods with the labels that it selects.
	Insecure bool `json:"insecure"`
	// TimeoutSeconds limits each call; 5 by default.
	TimeoutSeconds int32 `json:"timeoutSeconds"`
}

// Service is a Service in Kubernetes.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Port      int32  `json:"port"` // of kyuubi.frontend.rest.bind.port; 10099 by default
}

// TLS is how servers are verified.
type TLS struct {
	CAFile string `json:"caFile"` // PEM; empty for the system's authorities
	// ServerName is the name in the servers' certificate. Servers of a Service and
	// those of ZooKeeper are called by their IP, which is in no certificate.
	ServerName string `json:"serverName"`
	// CertFile and KeyFile are the releaser's own, PEM, for servers that ask for a
	// certificate, as ZooKeeper does by default.
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Basic is Basic authentication. The user must be in kyuubi.server.administrators.
type Basic struct {
	UserFile     string `json:"userFile"`
	PasswordFile string `json:"passwordFile"`
}

// Bearer is Bearer authentication. The token's user must be in
// kyuubi.server.administrators.
type Bearer struct {
	TokenFile string `json:"tokenFile"`
}

// ParseConfig reads a configuration from YAML or JSON. The error names each wrong field
// and what to write instead.
func ParseConfig(source []byte) (*Config, error) {
	data, err := yaml.YAMLToJSONStrict(source)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	unknown, err := strict.Decode(data, c, nil)
	if err := errors.Join(append(unknown, err)...); err != nil {
		return nil, err
	}
	c.complete()
	var errs []error
	for _, err := range c.check() {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

func (c *Config) complete() {
	if c.KeepSessionsSeconds == nil {
		c.KeepSessionsSeconds = new(int32(120))
	}
	if z := c.ZooKeeper; z != nil {
		z.Root, z.Namespace = "/"+strings.Trim(z.Root, "/"), strings.Trim(z.Namespace, "/")
		orElse(&z.Namespace, "kyuubi")
		orElse(&z.TimeoutSeconds, 5)
	}
	if s := c.Servers.Service; s != nil {
		orElse(&s.Port, 10099)
	}
	orElse(&c.Servers.TimeoutSeconds, 5)
}

func orElse[T comparable](value *T, otherwise T) {
	if *value == *new(T) {
		*value = otherwise
	}
}

func (c *Config) check() (errs field.ErrorList) {
	namespaces := field.NewPath("namespaces")
	if len(c.Namespaces) == 0 {
		errs = append(errs, field.Required(namespaces, "name the namespaces where Kyuubi launches engines (spark.kubernetes.namespace)"))
	}
	for i, n := range c.Namespaces {
		errs = append(errs, checkName(namespaces.Index(i), n)...)
	}
	if c.Way != "" && c.Way != "exact" {
		errs = append(errs, field.Invalid(field.NewPath("way"), c.Way, "remove it, and set zookeeper: engines are deregistered only there, because Kyuubi's REST API would also remove healthy ones"))
	}
	if at := field.NewPath("zookeeper"); c.ZooKeeper == nil {
		errs = append(errs, field.Required(at, "write the servers of kyuubi.ha.addresses; engines are deregistered there. The releaser does not work with a Kyuubi on etcd"))
	} else {
		errs = append(errs, c.ZooKeeper.check(at)...)
	}
	if keep := *c.KeepSessionsSeconds; keep < 0 || keep > 3600 {
		errs = append(errs, field.Invalid(field.NewPath("keepSessionsSeconds"), keep, "must be 0 to 3600; 0 closes sessions at once, before a client that polls can read the error"))
	}
	return append(errs, c.Servers.check(field.NewPath("servers"))...)
}

func checkName(at *field.Path, name string) (errs field.ErrorList) {
	for _, problem := range validation.IsDNS1123Label(name) {
		errs = append(errs, field.Invalid(at, name, problem))
	}
	return errs
}

func (z *ZooKeeper) check(at *field.Path) (errs field.ErrorList) {
	if len(z.Servers) == 0 {
		errs = append(errs, field.Required(at.Child("servers"), `a list of "host:port"`))
	}
	for i, s := range z.Servers {
		host, port, err := net.SplitHostPort(s)
		if _, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || host == "" {
			errs = append(errs, field.Invalid(at.Child("servers").Index(i), s, `must be "host:port"; write a path after it to zookeeper.root`))
		}
	}
	if strings.Contains(z.Namespace, "/") {
		errs = append(errs, field.Invalid(at.Child("namespace"), z.Namespace, "must be one name; write the path above it to zookeeper.root"))
	}
	errs = append(errs, checkFile(at.Child("digestFile"), z.DigestFile, true)...)
	if z.TLS != nil {
		errs = append(errs, z.TLS.check(at.Child("tls"), true)...)
	}
	return append(errs, checkTimeout(at, z.TimeoutSeconds)...)
}

func (s *Servers) check(at *field.Path) (errs field.ErrorList) {
	if (s.Service == nil) == (len(s.URLs) == 0) {
		errs = append(errs, field.Required(at, "set either service, a headless Service of Kyuubi's REST port, or urls, one for each server"))
	}
	if service := s.Service; service != nil {
		errs = append(errs, checkName(at.Child("service", "namespace"), service.Namespace)...)
		errs = append(errs, checkName(at.Child("service", "name"), service.Name)...)
		if len(validation.IsValidPortNum(int(service.Port))) > 0 {
			errs = append(errs, field.Invalid(at.Child("service", "port"), service.Port, "must be 1 to 65535"))
		}
	}
	if s.Service != nil && s.TLS == nil && (s.Basic != nil || s.Bearer != nil) && !s.Insecure {
		errs = append(errs, field.Required(at.Child("tls"), "the releaser sends the credentials to every pod that the Service selects. Set tls, or insecure: true if no one else may create pods there"))
	}
	for i, text := range s.URLs {
		if problem := s.urlProblem(text); problem != "" { // the text may hold a password
			errs = append(errs, field.Invalid(at.Child("urls").Index(i), field.OmitValueType{}, problem))
		}
	}
	if s.TLS != nil {
		errs = append(errs, s.TLS.check(at.Child("tls"), s.Service != nil)...)
	}
	return append(errs, s.checkAuthentication(at)...)
}

func (t *TLS) check(at *field.Path, byIP bool) (errs field.ErrorList) {
	errs = append(errs, checkFile(at.Child("caFile"), t.CAFile, true)...)
	if byIP && t.ServerName == "" {
		errs = append(errs, field.Required(at.Child("serverName"), "write the name in the servers' certificate, because the releaser calls them by their IP"))
	}
	errs = append(errs, checkFile(at.Child("certFile"), t.CertFile, t.KeyFile == "")...)
	return append(errs, checkFile(at.Child("keyFile"), t.KeyFile, t.CertFile == "")...)
}

func (s *Servers) checkAuthentication(at *field.Path) (errs field.ErrorList) {
	if s.Basic != nil && s.Bearer != nil {
		errs = append(errs, field.Forbidden(at.Child("bearer"), "must be empty if basic is set"))
	}
	if s.Basic != nil {
		errs = append(errs, checkFile(at.Child("basic", "userFile"), s.Basic.UserFile, false)...)
		errs = append(errs, checkFile(at.Child("basic", "passwordFile"), s.Basic.PasswordFile, false)...)
	}
	if s.Bearer != nil {
		errs = append(errs, checkFile(at.Child("bearer", "tokenFile"), s.Bearer.TokenFile, false)...)
	}
	return append(errs, checkTimeout(at, s.TimeoutSeconds)...)
}

func (s *Servers) urlProblem(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme):
		return "must be like http://kyuubi-0.kyuubi:10099"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return "must end after the port; the releaser adds /api/v1, and reads passwords from the files of servers.basic"
	case u.Scheme == "http" && s.TLS != nil:
		return "must begin with https, because servers.tls is set"
	}
	return ""
}

func checkFile(at *field.Path, file string, optional bool) field.ErrorList {
	switch {
	case file == "" && optional:
	case file == "":
		return field.ErrorList{field.Required(at, "write the path of a mounted file; the releaser reads it again for each release")}
	case !filepath.IsAbs(file):
		return field.ErrorList{field.Invalid(at, file, "must be an absolute path")}
	}
	return nil
}

func checkTimeout(at *field.Path, seconds int32) field.ErrorList {
	if seconds < 1 || seconds > 60 {
		return field.ErrorList{field.Invalid(at.Child("timeoutSeconds"), seconds, "must be 1 to 60")}
	}
	return nil
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
