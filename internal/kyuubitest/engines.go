package kyuubitest

import (
	"fmt"
	"path"
	"strings"
)

const version = "1.12.0"

// Space is where engines of a kind are registered.
type Space struct{ Level, User, Subdomain string }

// Path of the space, as Kyuubi 1.12.0 has it for kyuubi.ha.namespace "kyuubi".
func (s Space) Path() string {
	return fmt.Sprintf("/kyuubi_%s_%s_SPARK_SQL/%s/%s", version, s.Level, s.User, s.Subdomain)
}

// Register an engine in a space as Kyuubi's engines do, and return its node.
func Register(r Registry, s Space, reference, application, address string) (string, error) {
	return r.Register(fmt.Sprintf("%s/serverUri=%s;version=%s;spark.driver.memory=512m;spark.executor.memory=512m;kyuubi.engine.id=%s;refId=%s;sequence=",
		s.Path(), address, version, application, reference))
}

// engine as GET /admin/engine shows it.
type engine struct {
	Version    string            `json:"version"`
	User       string            `json:"user"`
	EngineType string            `json:"engineType"`
	ShareLevel string            `json:"sharelevel"`
	Subdomain  string            `json:"subdomain"`
	Instance   string            `json:"instance"`
	Namespace  string            `json:"namespace"`
	Attributes map[string]string `json:"attributes"`
	node       string
}

// enginesIn a space, or in all subdomains of its user where it has none. Kyuubi
// swallows the errors of ZooKeeper here.
func enginesIn(r Registry, s Space) []engine {
	found := []engine{}
	subdomains := []string{s.Subdomain}
	if s.Subdomain == "" {
		subdomains, _ = r.Children(path.Dir(Space{s.Level, s.User, "any"}.Path()))
	}
	for _, subdomain := range subdomains {
		space := Space{s.Level, s.User, subdomain}
		nodes, _ := r.Children(space.Path())
		for _, node := range nodes {
			e := engine{EngineType: "SPARK_SQL", ShareLevel: s.Level, User: s.User, Subdomain: subdomain, Namespace: space.Path(), Attributes: map[string]string{}, node: space.Path() + "/" + node}
			for pair := range strings.SplitSeq(node, ";") {
				key, value, _ := strings.Cut(pair, "=")
				e.Attributes[key] = value
			}
			e.Version, e.Instance = e.Attributes["version"], e.Attributes["serverUri"]
			found = append(found, e)
		}
	}
	return found
}
