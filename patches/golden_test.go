package patches_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	jsonpatchapply "github.com/evanphx/json-patch/v5"
	jsonv2 "github.com/go-json-experiment/json"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Each golden is applied twice; package webhook applies it once more through HTTP.
func TestGoldens(t *testing.T) {
	for _, c := range golden.Cases(t, "testdata") {
		t.Run(c.Name, func(t *testing.T) {
			result, after := apply(t, c.Kind, c.JSON, c.Policy, c.Mode)
			c.Check(t, tell(result), after)
			again, _ := apply(t, c.Kind, after, c.Policy, c.Mode)
			if len(again.Operations) > 0 {
				t.Errorf("applying it again changes it once more: %s", text(t, again.Operations))
			}
		})
	}
}

// Every patch has goldens; so have the Service and the records that are removed.
func TestEveryPatchHasGoldens(t *testing.T) {
	for _, name := range append(patches.PatchNames(), "service", "record") {
		found := false
		for _, c := range golden.Cases(t, "testdata") {
			found = found || strings.HasPrefix(c.Name, name+"-")
		}
		if !found {
			t.Errorf("no golden testdata/%s-*.txtar", name)
		}
	}
}

// apply does what the webhook does, on the JSON.
func apply(t *testing.T, kind string, object []byte, p *policy.Policy, mode policy.Mode) (patches.Result, []byte) {
	t.Helper()
	var result patches.Result
	if kind == "Service" {
		var service corev1.Service
		decode(t, object, &service)
		result = patches.ApplyToService(&service, p.ForService(&service, mode))
	} else {
		var pod corev1.Pod
		decode(t, object, &pod)
		sparkPod, err := spark.PodOf(&pod)
		if err != nil {
			result = patches.Clean(&pod)
		} else {
			result = patches.Apply(sparkPod, p.For(sparkPod, mode))
		}
	}
	if len(result.Operations) == 0 {
		return result, object
	}
	patch, err := jsonpatchapply.DecodePatch(text(t, result.Operations))
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(object)
	if err != nil {
		t.Fatalf("the operations do not apply: %v\n%s", err, text(t, result.Operations))
	}
	return result, after
}

func tell(r patches.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rule: %s\n", r.Rule)
	for _, each := range r.Set {
		fmt.Fprintf(&b, "set: %s: %s\n", each.Field, each.Why)
	}
	for _, each := range r.Left {
		fmt.Fprintf(&b, "left: %s: %s\n", each.Field, each.Why)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s: %s\n", w.Kind, w)
	}
	return b.String()
}

func decode(t *testing.T, object []byte, into any) {
	t.Helper()
	if err := jsonv2.Unmarshal(object, into); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, operations []jsonpatch.Operation) []byte {
	t.Helper()
	data, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
