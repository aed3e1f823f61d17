package releaser

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/elected"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

// node of the recorded engine, as a real Kyuubi 1.12.0 names it.
const node = "/kyuubi_1.12.0_USER_SPARK_SQL/alice/default/serverUri=10.244.0.110:44057;version=1.12.0;spark.driver.memory=512m;spark.executor.memory=512m;" +
	"kyuubi.engine.appMgrInfo=eyJyZXNvdXJjZU1hbmFnZXIiOiJrOHM6Ly9odHRwczovLzE5Mi4wLjIuMjoxNjQ0MyIsImt1YmVybmV0ZXNJbmZvIjp7ImNvbnRleHQiOm51bGwsIm5hbWVzcGFjZSI6Imt5dXViaSJ9fQ==;" +
	"kyuubi.engine.id=spark-9a1028bb636f43dab30d375d57320942;kyuubi.engine.url=spark-9a1028bb636f43da-driver-svc.kyuubi.svc:4040;refId=f0c02483-e90e-4517-bbb9-4f09f479e09c;sequence=0000000001"

// The journal has room for the engines of a node pool that is lost, each for the
// two minutes that its sessions are kept.
func TestJournalHasRoom(t *testing.T) {
	pod := dead()
	driver, err := spark.PodOf(kyuubitest.DriverOOMKilled())
	if err != nil {
		t.Fatal(err)
	}
	e, _ := (&simple{}).Engine(driver)
	e.Namespace = pod.Namespace
	r := gateway.Release{
		Driver: elected.KeyOf(pod).NamespacedName, UID: pod.UID, Engine: e, Death: gateway.Death{At: time.Now()},
		Found: []gateway.Registration{node}, Pending: gateway.Steps[1:], CloseAt: time.Now(),
	}
	entry, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	n := (1 << 20) / (len(pod.UID) + len(entry))
	t.Logf("%d entries of %d bytes", n, len(entry))
	if n < 900 {
		t.Errorf("%d entries of %d bytes have room", n, len(entry))
	}
}
