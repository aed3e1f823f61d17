package patches_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	jsonpatchapply "github.com/evanphx/json-patch/v5"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/generate"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// For any pod and policy: the operations apply to the JSON and make of it what
// Apply made of the typed pod; applying again does nothing; what is the user's
// stands; what we do not know of stays.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := policy.Parse([]byte(generate.Policies().Draw(t, "policy")))
		if err != nil {
			t.Fatal(err)
		}
		mode := rapid.SampledFrom([]policy.Mode{policy.Enabled, policy.Enabled, policy.Audit}).Draw(t, "mode")
		before := generate.Pods().Draw(t, "pod")
		object := withUnknownFields(t, before)

		after, typed, result := applyToJSON(t, p, mode, object)
		checkAgreement(t, after, typed, result)
		checkUserStands(t, before, after, result.Mode)
		checkUnknownFields(t, object, after)
		if _, _, again := applyToJSON(t, p, mode, after); len(again.Operations) > 0 {
			t.Fatalf("applying again: %v", again.Operations)
		}
	})
}

func applyToJSON(t rapid.TB, p *policy.Policy, mode policy.Mode, object []byte) ([]byte, *corev1.Pod, patches.Result) {
	pod := &corev1.Pod{}
	if err := jsonv2.Unmarshal(object, pod); err != nil {
		t.Fatal(err)
	}
	var result patches.Result
	if sparkPod, err := spark.PodOf(pod); err == nil {
		result = patches.Apply(sparkPod, p.For(sparkPod, mode))
	} else {
		result = patches.Clean(pod)
	}
	operations, err := json.Marshal(result.Operations)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatchapply.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(object)
	if err != nil {
		t.Fatalf("%s does not apply: %v", operations, err)
	}
	return after, pod, result
}

func checkAgreement(t rapid.TB, after []byte, typed *corev1.Pod, result patches.Result) {
	got := &corev1.Pod{}
	if err := jsonv2.Unmarshal(after, got); err != nil {
		t.Fatal(err)
	}
	if result.Mode != policy.Enabled {
		got.Spec, typed.Spec = corev1.PodSpec{}, corev1.PodSpec{}
	}
	if !apiequality.Semantic.DeepEqual(got, typed) {
		t.Fatalf("the operations and the typed pod disagree:\n%s", cmp.Diff(got, typed))
	}
}

func checkUserStands(t rapid.TB, before *corev1.Pod, after []byte, mode policy.Mode) {
	got := &corev1.Pod{}
	if err := json.Unmarshal(after, got); err != nil {
		t.Fatal(err)
	}
	size := 0
	for key, value := range got.Annotations {
		size += len(key) + len(value)
	}
	if size > 256<<10 {
		t.Fatalf("%d bytes of annotations", size)
	}
	for key := range got.Annotations {
		if annotations.IsRecord(key) {
			t.Fatalf("a new pod has the record %s", key)
		}
	}
	for key, value := range before.Annotations {
		if !annotations.IsStamp(key) && !annotations.IsRecord(key) && got.Annotations[key] != value {
			t.Fatalf("annotation %s: %q became %q", key, value, got.Annotations[key])
		}
	}
	sparks := -1
	if p, err := spark.PodOf(before); err == nil {
		sparks = p.Index
	}
	for i := range before.Spec.Containers {
		if i == sparks && mode == policy.Enabled {
			restore(t, &before.Spec.Containers[i], &got.Spec.Containers[i])
		}
	}
	got.Annotations, before.Annotations = nil, nil
	if !apiequality.Semantic.DeepEqual(got, before) {
		t.Fatalf("what is the user's has changed:\n%s", cmp.Diff(before, got))
	}
}

// restore takes out of a container what we may have put into it, if that is all
// there is.
func restore(t rapid.TB, before, got *corev1.Container) {
	for _, name := range policy.ProbeNames {
		if *name.Of(before) == nil {
			*name.Of(got) = nil
		}
	}
	if before.TerminationMessagePath == "" || before.TerminationMessagePath == corev1.TerminationMessagePathDefault {
		got.TerminationMessagePolicy = before.TerminationMessagePolicy
	}
	for i := range before.Ports {
		if before.Ports[i].Name == spark.BlockManagerPort && got.Ports[i].ContainerPort >= 20000 {
			got.Ports[i].ContainerPort = before.Ports[i].ContainerPort
		}
	}
	if len(got.Env) < len(before.Env) {
		t.Fatal("variables are gone")
	}
	for _, added := range got.Env[len(before.Env):] {
		ours := []string{"-XX:+ExitOnOutOfMemoryError", "-Dspark.executor.processTreeMetrics.enabled=true"}
		if !strings.HasPrefix(added.Value, spark.BlockManagerOption) && !slices.Contains(ours, added.Value) {
			t.Fatalf("added variable %v", added)
		}
	}
	got.Env = got.Env[:len(before.Env)]
	for i := range before.Env {
		if before.Env[i].Name == "JDK_JAVA_OPTIONS" && strings.HasPrefix(got.Env[i].Value, before.Env[i].Value) {
			got.Env[i].Value = before.Env[i].Value
		}
	}
	if len(got.Env) == 0 {
		got.Env = before.Env
	}
}

// withUnknownFields is the pod's JSON with fields that our types do not have.
func withUnknownFields(t *rapid.T, pod *corev1.Pod) []byte {
	var object map[string]any
	data, err := json.Marshal(pod)
	if err == nil {
		err = json.Unmarshal(data, &object)
	}
	if err != nil {
		t.Fatal(err)
	}
	object["unknownOfPod"] = map[string]any{"a": 1}
	object["spec"].(map[string]any)["unknownOfSpec"] = []any{"b"}
	for _, c := range object["spec"].(map[string]any)["containers"].([]any) {
		c.(map[string]any)["unknownOfContainer"] = "c"
	}
	if data, err = json.Marshal(object); err != nil {
		t.Fatal(err)
	}
	return data
}

func checkUnknownFields(t rapid.TB, before, after []byte) {
	for _, name := range []string{"unknownOfPod", "unknownOfSpec", "unknownOfContainer"} {
		if strings.Count(string(before), name) != strings.Count(string(after), name) {
			t.Fatalf("%s is gone", name)
		}
	}
}

// Nothing that "gentle" brings can end a container.
func TestGentleEndsNothing(t *testing.T) {
	p, err := policy.Parse([]byte("ruleSet: gentle"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		before := generate.Pods().Draw(t, "pod")
		before.Annotations = nil
		pod, err := spark.PodOf(before)
		if err != nil {
			return
		}
		own := *pod.Container().DeepCopy()
		patches.Apply(pod, p.For(pod, policy.Enabled))
		c := pod.Container()
		if own.LivenessProbe == nil && c.LivenessProbe != nil {
			t.Fatal("a liveness probe")
		}
		if own.StartupProbe == nil && c.StartupProbe != nil && c.StartupProbe.FailureThreshold != policy.NeverGivesUp {
			t.Fatal("a startup probe that gives up")
		}
	})
}
