package releaser

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/spark"
)

// What is kept of a dead engine is the same engine, as dead and as due.
func TestWhatIsKeptIsDue(t *testing.T) {
	text, err := os.ReadFile("../../internal/kyuubitest/driver-oomkilled.json")
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	p.Annotations = map[string]string{annotations.State: "KILLED", annotations.Released: annotations.ReleaseMark{Gateway: "kyuubi", Instances: []string{"a"}}.String(), "other": "x"}
	g := kyuubi.New(&kyuubi.Config{ZooKeeper: &kyuubi.ZooKeeper{}}, nil)
	type facts struct {
		Engine gateway.Engine
		Death  gateway.Death
		Mark   annotations.ReleaseMark
		Stage  gateway.Stage
	}
	read := func(p *corev1.Pod) (f facts) {
		driver, err := spark.PodOf(p)
		if err != nil {
			t.Fatal(err)
		}
		var ok bool
		if f.Engine, ok = g.Engine(driver); !ok {
			t.Error("it is no engine")
		}
		f.Death, f.Stage = gateway.StageOf(driver, false, "b")
		f.Mark = annotations.ReadReleaseMark(p.Annotations[annotations.Released])
		return f
	}
	if d := cmp.Diff(read(p), read(reading.Pod(p))); d != "" {
		t.Errorf("(-whole +kept):\n%s", d)
	}
	if whole := read(p); whole.Stage != gateway.Due || whole.Engine.Reference == "" || len(whole.Engine.Addresses) == 0 {
		t.Errorf("%+v", whole)
	}
}

// Whatever its owner makes of a driver, little of it is kept.
func TestLittleIsKept(t *testing.T) {
	p := generate.Bloated(spark.Driver, spark.DriverContainer)
	for _, key := range []string{annotations.State, annotations.Released} {
		p.Annotations[key] = strings.Repeat("x", 250<<10)
	}
	if kept, _ := json.Marshal(reading.Pod(p)); len(kept) > 125<<10 {
		t.Errorf("%d bytes are kept", len(kept))
	}
}
