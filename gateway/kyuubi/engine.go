package kyuubi

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/spark"
)

// engineType is the only type of engines that are Spark drivers.
const engineType = "SPARK_SQL"

// Engine returns the engine of a driver. A batch has none, because Kyuubi watches
// batches itself, and neither has a driver that Kyuubi did not launch. Labels can
// change after its death, but the id in its environment cannot, so the two must agree.
func (*Kyuubi) Engine(driver spark.Pod) (e gateway.Engine, ok bool) {
	e = gateway.Engine{
		Reference:   driver.Labels[gateway.Label],
		Application: driver.Application(),
		Namespace:   driver.Namespace,
		Addresses:   gateway.Addresses(driver.Pod),
	}
	given, _ := driver.Env("SPARK_APPLICATION_ID")
	return e, e.Reference != "" && e.Application != "" && e.Application == given && driver.MainClass() == spark.KyuubiEngineClass
}

// attributes are the names and values in the name of an engine's node.
type attributes map[string]string

// attributesOf reads a node's name:
// "serverUri=10.244.0.110:44057;version=1.12.0;refId=...".
func attributesOf(node string) attributes {
	a := attributes{}
	for pair := range strings.SplitSeq(node, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			a[key] = value
		}
	}
	return a
}

// registers reports whether the attributes belong to the engine: both keys match, the
// address, and the namespace if there is one. An empty key matches nothing.
func (a attributes) registers(e gateway.Engine) bool {
	return e.Reference != "" && a["refId"] == e.Reference && a.hasApplication(e) && a.mayRunIn(e.Namespace) &&
		slices.ContainsFunc(e.Addresses, func(own string) bool { return sameAddress(a["serverUri"], own) })
}

func (a attributes) hasApplication(e gateway.Engine) bool {
	return e.Application != "" && a["kyuubi.engine.id"] == e.Application
}

// mayRunIn reports whether the engine may run in a namespace. It matters because
// Kubernetes gives an address to other pods later, also in namespaces that the releaser
// does not watch. Kyuubi before 1.8 names no namespace.
func (a attributes) mayRunIn(namespace string) bool {
	said, given := a["kyuubi.engine.appMgrInfo"]
	if !given {
		return true
	}
	var manager struct {
		KubernetesInfo struct{ Namespace string }
	}
	text, err := base64.StdEncoding.DecodeString(said)
	if err != nil || json.Unmarshal(text, &manager) != nil {
		return false
	}
	where := manager.KubernetesInfo.Namespace
	return where == "" || where == namespace
}

func sameAddress(serverURI, own string) bool {
	colon := strings.LastIndexByte(serverURI, ':')
	if colon < 0 {
		return false
	}
	registered, err := netip.ParseAddr(strings.Trim(serverURI[:colon], "[]"))
	if err != nil { // a name; see docs/kyuubi.md on kyuubi.frontend.connection.url.use.hostname
		return false
	}
	address, err := netip.ParseAddr(own)
	return err == nil && registered.Unmap() == address.Unmap()
}
