package stories

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A NetworkPolicy lets executors reach each other only on the kernel's ephemeral ports,
// where Spark's random port is. With spark-vitals the port is outside of these.
func TestNetworkPolicy(t *testing.T) {
	s := story{
		name: "network-policy", why: "a policy that expects the block manager on an ephemeral port", host: true,
		app: app{file: "shuffle.py", args: []string{"1", "0"}, conf: conf(
			"spark.executor.instances", "2", "spark.scheduler.minRegisteredResourcesRatio", "1",
			// A packet that is dropped is a connection that times out: soon, and not after minutes.
			"spark.shuffle.io.connectionTimeout", "10s", "spark.shuffle.io.connectionCreationTimeout", "10s",
			"spark.shuffle.io.maxRetries", "0", "spark.stage.maxConsecutiveAttempts", "2")},
	}
	s.run(t, func(t *testing.T, version string) {
		stop, err := theLab.EnforceNetworkPolicies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		for _, c := range []struct {
			name    string
			mode    string // of the namespace; "" has not opted in
			allowed bool   // by the policy of docs/probes.md
			fails   bool   // where Spark makes no policy of its own
		}{
			{s.name, "", false, false},
			{s.name, "enabled", false, true},
			{s.name + "-allowed", "enabled", true, false},
			{s.name + "-audit", "audit", false, false},
		} {
			r := prepare(t, c.name, version, s.app, c.mode != "")
			r.label(t, annotations.Inject, c.mode)
			policies := []networkingv1.NetworkPolicy{documentedPolicy(t)}
			ephemeral := policies[0].DeepCopy()
			ephemeral.Name = "ephemeral"
			ephemeral.Spec.Ingress[0].Ports[0].Port.IntVal, *ephemeral.Spec.Ingress[0].Ports[0].EndPort = 32768, 60999
			if policies = append(policies, *ephemeral); !c.allowed {
				policies = policies[1:]
			}
			for _, p := range policies {
				if _, err := theLab.Client.NetworkingV1().NetworkPolicies(r.Namespace).Create(t.Context(), &p, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := theLab.Submit(t.Context(), r.App); err != nil {
				t.Fatal(err)
			}
			r.untilDriverEnds(t)
			r.checkBlockManagers(t, c.mode == "enabled")
			// Spark 4.2 and later make a policy for each application, which allows all ports.
			fails := c.fails && version == oldest
			log, seen := r.log(t), "executors fetch blocks"
			if fails {
				seen = "FetchFailed"
			}
			if failed := r.driverEnd().ExitCode != 0; failed != fails || failed && !strings.Contains(log, "FetchFailed") {
				t.Errorf("%s: failed: %t, want %t, by FetchFailed", r.Namespace, failed, fails)
			}
			if !fails && !strings.Contains(log, "ROUND 0 100") {
				t.Errorf("%s: the driver's log has no result", r.Namespace)
			}
			theTable.add(t, c.name, r, seen)
		}
	})
}

// label labels the namespace of a run.
func (r *run) label(t *testing.T, key, value string) {
	t.Helper()
	if value == "" {
		return
	}
	namespace, err := theLab.Client.CoreV1().Namespaces().Get(t.Context(), r.Namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	metav1.SetMetaDataLabel(&namespace.ObjectMeta, key, value)
	if _, err := theLab.Client.CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// checkBlockManagers checks whether the executors' block managers use an injected port.
func (r *run) checkBlockManagers(t *testing.T, ours bool) {
	t.Helper()
	r.Look(func(h *lab.History) {
		if len(h.Pods(spark.Executor)) < 2 {
			t.Errorf("%s: there were fewer than two executors", r.Namespace)
		}
		for _, p := range h.Pods(spark.Executor) {
			pod, err := spark.PodOf(p.Last)
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range pod.Container().Ports {
				if port.Name == "blockmanager" && (port.ContainerPort >= 20000 && port.ContainerPort <= 29999) != ours {
					t.Errorf("%s declares its block manager on port %d", p.Last.Name, port.ContainerPort)
				}
			}
		}
	})
}

// documentedPolicy returns the NetworkPolicy of docs/probes.md.
func documentedPolicy(t *testing.T) (p networkingv1.NetworkPolicy) {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "probes.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if strings.Contains(text, "kind: NetworkPolicy") {
			if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatal("docs/probes.md has no NetworkPolicy")
	return p
}
