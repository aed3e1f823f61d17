package releaser

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

// node of the recorded engine, as a real Kyuubi 1.12.0 names it.
const node = "/kyuubi_1.12.0_USER_SPARK_SQL/alice/default/serverUri=10.244.0.110:44057;version=1.12.0;spark.driver.memory=512m;spark.executor.memory=512m;" +
	"kyuubi.engine.appMgrInfo=eyJyZXNvdXJjZU1hbmFnZXIiOiJrOHM6Ly9odHRwczovLzE5Mi4wLjIuMjoxNjQ0MyIsImt1YmVybmV0ZXNJbmZvIjp7ImNvbnRleHQiOm51bGwsIm5hbWVzcGFjZSI6Imt5dXViaSJ9fQ==;" +
	"kyuubi.engine.id=spark-9a1028bb636f43dab30d375d57320942;kyuubi.engine.url=spark-9a1028bb636f43da-driver-svc.kyuubi.svc:4040;refId=f0c02483-e90e-4517-bbb9-4f09f479e09c;sequence=0000000001"

// The journal has space for the engines of a node pool that is lost, each for the
// two minutes that its sessions are kept.
func TestJournalHasSpace(t *testing.T) {
	pod := dead()
	driver, err := spark.PodOf(kyuubitest.DriverOOMKilled())
	if err != nil {
		t.Fatal(err)
	}
	e, _ := (&simple{}).Engine(driver)
	e.Namespace = pod.Namespace
	r := gateway.Release{
		Driver: job.KeyOf(pod).NamespacedName, UID: pod.UID, Engine: e, Death: gateway.Death{At: time.Now()},
		Found: []gateway.Registration{node}, Pending: gateway.Steps[1:], CloseAt: time.Now(),
	}
	entry, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	n := (1 << 20) / (len(pod.UID) + len(entry))
	t.Logf("%d entries of %d bytes", n, len(entry))
	if n < 900 {
		t.Errorf("%d entries of %d bytes fit", n, len(entry))
	}
}

// The chart makes each ConfigMap of the journal, and gives rights on no other.
func TestChartMakesTheJournal(t *testing.T) {
	manifest, err := os.ReadFile("manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	made, granted := map[string]bool{}, []string{}
	for document := range strings.SplitSeq(string(manifest), "\n---\n") {
		var o struct {
			Kind     string
			Metadata metav1.ObjectMeta
			Rules    []rbacv1.PolicyRule
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		made[o.Kind+" "+o.Metadata.Name] = true
		for _, r := range o.Rules {
			if slices.Contains(r.Resources, "configmaps") {
				granted = append(granted, r.ResourceNames...)
			}
		}
	}
	j := newJournal(nil, types.NamespacedName{Name: name})
	for shard := range shards + 1 {
		name, wanted := j.object(shard).Name, shard < shards
		if made["ConfigMap "+name] != wanted || slices.Contains(granted, name) != wanted {
			t.Errorf("%s: made: %t, granted: %q", name, made["ConfigMap "+name], granted)
		}
	}
}

// Each entry has one ConfigMap. An entry in that of 0.1.0 is found there and
// removed there.
func TestJournalOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keeping(t)
		w.see(dead(), false)
		w.work(time.Minute)
		all := w.journal()
		var kept corev1.ConfigMapList
		if err := w.api.List(t.Context(), &kept); err != nil || len(kept.Items) != 1 {
			t.Fatalf("%d ConfigMaps: %v", len(kept.Items), err)
		}
		if err := w.api.Delete(t.Context(), &kept.Items[0]); err != nil {
			t.Fatal(err)
		}
		first := w.loop.journal.object(0)
		if first.Data = all; w.api.Create(t.Context(), first) != nil {
			t.Fatal("the one of 0.1.0 is there")
		}
		w.restart()
		w.resume()
		w.work(kept120)
		if !slices.Contains(w.gateway.order, "sessions") || len(w.journal()) > 0 {
			t.Error(w.gateway.order, w.journal())
		}
	})
}

const kept120 = kept + time.Second
