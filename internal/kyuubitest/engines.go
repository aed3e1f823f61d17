package kyuubitest

import "fmt"

const version = "1.12.0"

// Space is the space in which engines of a kind are registered.
type Space struct{ Level, User, Subdomain string }

// Path returns the space's path, as in Kyuubi 1.12.0 for kyuubi.ha.namespace "kyuubi".
func (s Space) Path() string {
	return fmt.Sprintf("/kyuubi_%s_%s_SPARK_SQL/%s/%s", version, s.Level, s.User, s.Subdomain)
}

// Register registers an engine in a space as Kyuubi's engines do, and returns its
// node.
func Register(r Registry, s Space, reference, application, address string) (string, error) {
	return r.Register(fmt.Sprintf("%s/serverUri=%s;version=%s;spark.driver.memory=512m;spark.executor.memory=512m;kyuubi.engine.id=%s;refId=%s;sequence=",
		s.Path(), address, version, application, reference))
}
