package patches_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// FuzzPatch: whatever the pod, if the webhook can decode it, the operations apply
// to its bytes and agree with the typed pod, touch nothing but what is ours to
// touch, and applying again does nothing. (That the result is valid is for the API
// server to say: TestGeneratedPods in e2e/apiserver.)
func FuzzPatch(f *testing.F) {
	var policies []*policy.Policy
	for _, source := range generate.EachPolicy() {
		p, err := policy.Parse([]byte(source))
		if err != nil {
			f.Fatal(err)
		}
		policies = append(policies, p)
	}
	n := 0
	add := func(object []byte) {
		if len(object) < 16<<10 { // large ones are slow to mutate
			f.Add(object, uint8(n), n%2 == 1)
			n++
		}
	}
	for _, review := range captured.Reviews() {
		add(review.Object())
	}
	for _, c := range golden.Cases(f, "testdata") {
		add(c.JSON)
	}
	for n := range 30 {
		object, err := json.Marshal(generate.Pods().Example(n))
		if err != nil {
			f.Fatal(err)
		}
		add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte, chosen uint8, audit bool) {
		var before corev1.Pod
		if err := jsonv2.Unmarshal(object, &before); err != nil {
			return
		}
		p, mode := policies[int(chosen)%len(policies)], policy.Enabled
		if audit {
			mode = policy.Audit
		}
		after, typed, result := applyToJSON(t, p, mode, object)
		for _, operation := range result.Operations {
			if !isOursToTouch(&before, operation.Path) {
				t.Errorf("touches %s", operation.Path)
			}
		}
		checkAgreement(t, after, typed, result)
		checkUserStands(t, &before, after, result.Mode)
		if _, _, again := applyToJSON(t, p, mode, after); len(again.Operations) > 0 {
			t.Errorf("applying again: %v", again.Operations)
		}
	})
}

var ownFields = regexp.MustCompile(`^(startupProbe|readinessProbe|livenessProbe|env|env/-|env/\d+/value|ports/\d+/containerPort|terminationMessagePolicy)$`)

func isOursToTouch(pod *corev1.Pod, path string) bool {
	if path == "/metadata/annotations" {
		return len(pod.Annotations) == 0
	}
	if strings.HasPrefix(path, "/metadata/annotations/spark-vitals.io~1") {
		return true
	}
	sparkPod, err := spark.PodOf(pod)
	if err != nil {
		return false
	}
	field, ok := strings.CutPrefix(path, fmt.Sprintf("/spec/containers/%d/", sparkPod.Index))
	return ok && ownFields.MatchString(field)
}
