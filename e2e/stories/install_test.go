package stories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// "helm test" says of the chart that the stories use: a Spark pod in an opted-in
// namespace would be injected, and the recorder can write.
func TestInstall(t *testing.T) {
	s := story{name: "helm-test", why: "\"helm test\" passes", ci: newest, versions: []string{newest}}
	s.run(t, func(t *testing.T, _ string) {
		logs, err := theLab.TestInstallation()
		if err != nil {
			t.Errorf("%v\n%s", err, logs)
		}
		t.Log(strings.TrimSpace(logs))
	})
}

// With certificates.mode=cert-manager, cert-manager's own controllers make the
// certificate and the API server's trust in it.
func TestCertManager(t *testing.T) {
	s := story{
		name: "install-cert-manager", why: "cert-manager's own controllers keep the certificate",
		versions: []string{oldest}, host: true,
	}
	s.run(t, func(t *testing.T, version string) {
		if err := theLab.Uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop, err := theLab.StartCertManager(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		theLab.Values = map[string]any{"certificates": map[string]any{"mode": "cert-manager"}}
		t.Cleanup(func() {
			err := theLab.Uninstall(context.Background())
			theLab.Values = nil
			if err := errors.Join(err, stop(), theLab.Install(context.Background())); err != nil {
				t.Error(err)
			}
		})
		begun := time.Now()
		if err := theLab.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		logs, err := theLab.TestInstallation()
		if err != nil {
			t.Errorf("%v\n%s", err, logs)
		}
		t.Log(strings.TrimSpace(logs))
		theTable.note(t, s.name, version, "injected after "+seconds(took), time.Since(begun))
	})
}

// The installation changes while Spark pods are requested without pause through the API
// server, kube-proxy and the Service. None is refused, and none is missed unless a
// webhook is killed.
type change struct {
	story
	do    func(t *testing.T, namespace string, asking *cluster.Asking)
	kills bool
}

var changes = []change{
	{story: story{name: "install-roll", why: "webhooks are exchanged, one after the other"}, do: roll},
	{story: story{name: "install-upgrade", why: "another policy, and back"}, do: upgrade},
	{story: story{name: "install-evict", why: "a drain evicts webhooks, as fast as the budget lets it"}, do: evict},
	{story: story{name: "install-kill", why: "a webhook is killed by SIGKILL", host: true}, do: kill, kills: true},
}

func TestChanges(t *testing.T) {
	for _, c := range changes {
		c.versions = []string{oldest} // the pods' shape; no Spark runs
		c.run(t, func(t *testing.T, version string) { c.test(t, version) })
	}
}

func (c change) test(t *testing.T, version string) {
	client := clientset(t, 40) // pods a second; a busy machine would measure only itself
	if err := theLab.NewNamespace(t.Context(), c.name, map[string]string{annotations.Inject: "enabled"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, c.name) })
	untilTreated(t, c.name, injected)
	asking, begun := cluster.Ask(t.Context(), client, c.name), time.Now()
	defer asking.End()
	more(t, asking)
	c.do(t, c.name, asking)
	more(t, asking)
	tally := asking.End()
	if tally.Refused > 0 {
		t.Errorf("%s: %v", tally, tally.Why)
	}
	if tally.Uninjected > 0 && !c.kills {
		t.Errorf("missed: %s", tally)
	}
	theTable.note(t, c.name, version, tally.String(), time.Since(begun))
}

func more(t *testing.T, asking *cluster.Asking) {
	t.Helper()
	if err := asking.More(100); err != nil {
		t.Fatal(err)
	}
}

func roll(t *testing.T, _ string, _ *cluster.Asking) {
	old := webhooks(t)
	if err := theLab.Kubectl(t.Context(), nil, "--namespace", lab.Namespace, "rollout", "restart", "deployment/spark-vitals-webhook"); err != nil {
		t.Fatal(err)
	}
	untilExchanged(t, old)
}

func upgrade(t *testing.T, namespace string, _ *cluster.Asking) {
	const changed = "rules: [{name: changed, match: {role: executor}, memoryAnnotations: true}]"
	_, rule, _ := treatment(t, namespace)
	file := policyFile(t)
	step := func(what string, change func() error, want string) {
		old := webhooks(t)
		if err := change(); err != nil {
			t.Fatal(err)
		}
		untilExchanged(t, old)
		if _, got, err := treatment(t, namespace); got != want {
			t.Errorf("after the %s executors have the rule %q, want %q (%v)", what, got, want, err)
		}
	}
	step("upgrade", func() error { return theLab.Upgrade(t.Context(), changed) }, "changed")
	if policyFile(t) == file {
		t.Error("another policy stands in a ConfigMap of the same name")
	}
	step("rollback", theLab.Rollback, rule)
	if got := policyFile(t); got != file {
		t.Errorf("after the rollback the policy is in %s, before it was in %s", got, file)
	}
}

func evict(t *testing.T, _ string, _ *cluster.Asking) {
	old, client := webhooks(t), clientset(t, -1)
	evict := func(pod corev1.Pod) error {
		return client.PolicyV1().Evictions(pod.Namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
	}
	eventually.Succeeds(t, "the first is evicted", func(context.Context) error { return evict(old[0]) })
	if err := evict(old[1]); !apierrors.IsTooManyRequests(err) {
		t.Errorf("evicted both at once: %v", err)
	}
	eventually.Succeeds(t, "the second is evicted", func(context.Context) error { return evict(old[1]) })
	untilExchanged(t, old)
}

// kill kills one webhook: its calls in progress are lost, and so are new calls until
// the kubelet and kube-proxy know.
func kill(t *testing.T, _ string, asking *cluster.Asking) {
	doomed := webhooks(t)[0]
	if _, err := lab.Signal(&doomed, "spark-vitals", "webhook", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "it runs again", func(context.Context) error {
		for _, pod := range webhooks(t) {
			if pod.UID == doomed.UID && pod.Status.ContainerStatuses[0].RestartCount > doomed.Status.ContainerStatuses[0].RestartCount && isReady(&pod) {
				return nil
			}
		}
		return fmt.Errorf("%s was not restarted, or is not ready", doomed.Name)
	})
	more(t, asking)
	before := asking.Tally()
	more(t, asking)
	if after := asking.Tally(); after.Uninjected > before.Uninjected {
		t.Errorf("pods are still missed: %s", after)
	}
}

// How executors are treated.
const (
	untouched = "untouched"
	audited   = "audited, and not touched"
	injected  = "injected"
)

// treatment returns how executors of a namespace are treated, and by which rule.
func treatment(t *testing.T, namespace string) (what, rule string, err error) {
	t.Helper()
	pod, err := cluster.AskOnce(t.Context(), clientset(t, -1), namespace)
	if err != nil {
		return "", "", err
	}
	var stamp struct{ Mode, Rule string }
	_ = json.Unmarshal([]byte(pod.Annotations[annotations.Injected]), &stamp) // there may be none
	switch probed := pod.Spec.Containers[0].ReadinessProbe != nil; {
	case stamp.Mode == "" && stamp.Rule != "":
		return injected, stamp.Rule, nil
	case stamp.Mode == "audit" && !probed:
		return audited, stamp.Rule, nil
	case len(pod.Annotations) == 0 && !probed:
		return untouched, "", nil
	}
	return fmt.Sprintf("treated in another way: %v", pod.Annotations), stamp.Rule, nil
}

func untilTreated(t *testing.T, namespace, want string) {
	t.Helper()
	eventually.Succeeds(t, "executors are "+want, func(context.Context) error {
		got, _, err := treatment(t, namespace)
		if err == nil && got != want {
			err = errors.New("they are " + got)
		}
		return err
	})
}

// webhooks returns the pods of the webhook, including those that are terminating.
func webhooks(t *testing.T) []corev1.Pod {
	t.Helper()
	pods, err := clientset(t, -1).CoreV1().Pods(lab.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: webhookLabel})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

const webhookLabel = "app.kubernetes.io/component=webhook"

// untilExchanged waits until the old webhooks are gone and as many new ones are ready.
func untilExchanged(t *testing.T, old []corev1.Pod) {
	t.Helper()
	eventually.Succeeds(t, "webhooks are exchanged", func(context.Context) error {
		pods := webhooks(t)
		for _, pod := range pods {
			if !isReady(&pod) || slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) {
				return fmt.Errorf("%s is old, or not ready", pod.Name)
			}
		}
		if len(pods) != len(old) {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// policyFile returns the name of the ConfigMap with the webhooks' policy.
func policyFile(t *testing.T) string {
	t.Helper()
	all, err := clientset(t, -1).CoreV1().ConfigMaps(lab.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: webhookLabel})
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 {
		t.Errorf("there are %d policies", len(all.Items))
	}
	return all.Items[0].Name
}

func clientset(t *testing.T, perSecond float32) kubernetes.Interface {
	t.Helper()
	config := rest.CopyConfig(theLab.Config)
	config.QPS, config.Burst = perSecond, 1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
