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

// engineType is the only one whose engines are Spark drivers.
const engineType = "SPARK_SQL"

// engineOf a driver; batches are none, because Kyuubi watches them itself. Labels can be changed after its death; the id in its
// environment cannot, so they must agree.
func engineOf(driver spark.Pod) (e gateway.Engine, ok bool) {
	e = gateway.Engine{
		Reference:   driver.Labels[gateway.Label],
		Application: driver.Application(),
		Namespace:   driver.Namespace,
		Addresses:   gateway.Addresses(driver.Pod),
	}
	given, _ := driver.Env("SPARK_APPLICATION_ID")
	return e, e.Reference != "" && e.Application != "" && e.Application == given && driver.MainClass() == spark.KyuubiEngineClass
}

// attributes are what an engine is registered with, by name, in the name of its
// node.
type attributes map[string]string

// attributesOf a node's name: "serverUri=10.244.0.110:44057;version=1.12.0;refId=...".
func attributesOf(node string) attributes {
	a := attributes{}
	for pair := range strings.SplitSeq(node, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			a[key] = value
		}
	}
	return a
}

// registers tells whether they are those of the engine: both keys, the address,
// and the namespace where it is given. An empty key matches nothing.
func (a attributes) registers(e gateway.Engine) bool {
	return e.Reference != "" && a["refId"] == e.Reference && a.hasApplication(e) && a.mayRunIn(e.Namespace) &&
		slices.ContainsFunc(e.Addresses, func(own string) bool { return sameAddress(a["serverUri"], own) })
}

func (a attributes) hasApplication(e gateway.Engine) bool {
	return e.Application != "" && a["kyuubi.engine.id"] == e.Application
}

// mayRunIn a namespace: addresses are given to other pods again, also in
// namespaces that we do not watch. Kyuubi before 1.8 does not say where.
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
