package kyuubi

import (
	"fmt"
	"slices"
	"testing"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

// A look finds each engine's own registration, and no other's: both keys and the
// address must be its own.
func TestLook(t *testing.T) {
	own := deadEngine(t)
	w := newWorkbench(t, someConfig)
	node, other := w.register(t, usersSpace, own), w.register(t, usersSpace, healthy)
	for name, c := range map[string]struct {
		engine gateway.Engine
		want   string
	}{
		"itself":                {own, node},
		"another":               {healthy, other},
		"another's tag":         {gateway.Engine{Reference: healthy.Reference, Application: own.Application, Addresses: own.Addresses}, ""},
		"another's application": {gateway.Engine{Reference: own.Reference, Application: healthy.Application, Addresses: own.Addresses}, ""},
		"another's address":     {gateway.Engine{Reference: own.Reference, Application: own.Application, Addresses: healthy.Addresses}, ""},
		"nothing":               {gateway.Engine{}, ""},
	} {
		found, err := w.kyuubi.Look(t.Context(), []gateway.Engine{own, c.engine})
		if err != nil || len(found) != 2 || !slices.Equal(found[0], []gateway.Registration{gateway.Registration(node)}) {
			t.Fatal(name, found, err)
		}
		if (c.want == "") != (len(found[1]) == 0) || c.want != "" && string(found[1][0]) != c.want {
			t.Errorf("%s: %q", name, found[1])
		}
	}
}

// A look that fails or takes too long is no answer, and refuses no death.
func TestLookFails(t *testing.T) {
	w := newWorkbench(t, someConfig)
	w.register(t, usersSpace, healthy)
	w.tree.Down(true)
	for range 2 * maxOverruns {
		if found, err := w.kyuubi.Look(t.Context(), []gateway.Engine{healthy}); err == nil {
			t.Error(found)
		}
	}
	w.tree.Down(false)
	if _, err := w.kyuubi.Registrations(t.Context(), healthy); err != nil {
		t.Error(err)
	}
}

// BenchmarkLook at many engines, each of a user of its own, of a registry in
// memory: what is left is our own work. e2e/releaser has a real ZooKeeper.
func BenchmarkLook(b *testing.B) {
	const many = 2000
	w := newWorkbench(b, someConfig)
	var engines []gateway.Engine
	for i := range many {
		e := gateway.Engine{Reference: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), Application: fmt.Sprintf("spark-%032x", i), Namespace: "kyuubi", Addresses: []string{fmt.Sprintf("10.%d.%d.1", i/250, i%250)}}
		if _, err := kyuubitest.Register(w.tree, kyuubitest.Space{Level: "USER", User: fmt.Sprintf("user-%d", i), Subdomain: "default"}, e.Reference, e.Application, e.Addresses[0]+":44057"); err != nil {
			b.Fatal(err)
		}
		engines = append(engines, e)
	}
	b.ReportAllocs()
	for b.Loop() {
		found, err := w.kyuubi.Look(b.Context(), engines)
		if err != nil || len(found) != many || len(found[many-1]) != 1 {
			b.Fatal(err)
		}
	}
}
