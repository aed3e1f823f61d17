package chart

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

var writes = flag.Int("writes", 1000, "how many status writes of kubelets to try beside the guards")

// guarded is a namespace with guards, and the clients that may act there.
type guarded struct {
	namespace                                string
	tenant, driver, kubelet, recorder, admin kubernetes.Interface
	stallwatch, releaser                     kubernetes.Interface
}

func guard(t *testing.T, name string, values map[string]any) guarded {
	t.Helper()
	g := guarded{namespace: namespace(t, name+"-team"), admin: admin}
	all := map[string]any{
		"stallwatch": map[string]any{"enabled": true},
		"releaser":   map[string]any{"enabled": true, "config": map[string]any{"namespaces": []any{g.namespace}}},
	}
	maps.Copy(all, values)
	install(t, name, all)
	for _, role := range []string{"system:aggregate-to-edit", "system:aggregate-to-view"} { // of which a controller makes "edit"
		allow(t, g.namespace, role, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "tenant"})
		allow(t, g.namespace, role, rbacv1.Subject{Kind: "ServiceAccount", Name: "spark", Namespace: g.namespace})
	}
	allow(t, g.namespace, "system:node", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:nodes"})
	g.tenant = as(t, "tenant")
	g.kubelet = as(t, "system:node:node", "system:nodes")
	g.driver = withToken(t, g.namespace, "spark")
	g.recorder = withToken(t, name, name+"-spark-vitals-recorder")
	g.stallwatch = withToken(t, name, name+"-spark-vitals-stallwatch")
	g.releaser = withToken(t, name, name+"-spark-vitals-releaser")
	pod := newPod(t, g.namespace, nil)
	// Policies come into force one by one, some moments after they are made.
	for _, key := range []string{annotations.State, annotations.Injected} {
		tries := 0
		eventually.Succeeds(t, "the guard of "+key, func(ctx context.Context) error {
			tries++
			err := patch(ctx, g.tenant, pod, fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, key, tries))
			if refused(err) == nil && !strings.Contains(err.Error(), "'"+name+"-spark-vitals-") {
				return fmt.Errorf("refused by the guards of another test, which are about to go: %w", err)
			}
			return refused(err)
		})
	}
	tries := 0
	eventually.Succeeds(t, "the guard of accounts", func(ctx context.Context) error {
		tries++
		return refused(patch(ctx, g.recorder, pod, fmt.Sprintf(`{"metadata":{"labels":{"try":"%d"}}}`, tries), "status"))
	})
	// So do the rights of each account.
	for who, may := range map[string]func(context.Context) error{
		"driver":     func(ctx context.Context) error { return patch(ctx, g.driver, pod, `{}`) },
		"kubelet":    func(ctx context.Context) error { return patch(ctx, g.kubelet, pod, `{}`, "status") },
		"stallwatch": func(ctx context.Context) error { return patch(ctx, g.stallwatch, pod, `{}`, "status") },
		"releaser":   func(ctx context.Context) error { return patch(ctx, g.releaser, pod, `{}`, "status") },
	} {
		eventually.Succeeds(t, "the rights of the "+who, may)
	}
	return g
}

// refused returns nil for an error of a guard, and an error for everything else.
func refused(err error) error {
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
		return nil
	}
	return fmt.Errorf("not refused by a guard: %w", err)
}

// These users may do this to a pod with a record and stamps. The record was there when
// the pod was created, as in a restored copy.
func TestGuards(t *testing.T) {
	g := guard(t, "guards", nil)
	const (
		record   = `{"metadata":{"annotations":{"spark-vitals.io/message":"all is well"}}}`
		noRecord = `{"metadata":{"annotations":{"spark-vitals.io/state":null}}}`
		stamp    = `{"metadata":{"annotations":{"spark-vitals.io/memory-limit":"1Gi"}}}`
		noStamp  = `{"metadata":{"annotations":{"spark-vitals.io/injected":null}}}`
		changed  = `{"metadata":{"annotations":{"spark-vitals.io/injected":"1"}}}`
		oneOfTwo = `{"metadata":{"annotations":{"spark-vitals.io/injected":null,"spark-vitals.io/memory-limit":"1Gi"}}}`
		setting  = `{"metadata":{"annotations":{"spark-vitals.io/rule":"gentle"}}}`
		other    = `{"metadata":{"annotations":{"example.com/a":"b"}}}`
		label    = `{"metadata":{"labels":{"a":"b"}}}`
		phase    = `{"status":{"phase":"Failed"}}`
	)
	for _, test := range []struct {
		who                string
		client             kubernetes.Interface
		what, text, within string
		allowed            bool
	}{
		{"tenant", g.tenant, "writes a record", record, "", false},
		{"tenant", g.tenant, "removes a record", noRecord, "", false},
		{"tenant", g.tenant, "writes a stamp", stamp, "", false},
		{"tenant", g.tenant, "removes a stamp", noStamp, "", false},
		{"tenant", g.tenant, "writes a setting", setting, "", true},
		{"tenant", g.tenant, "writes a label", label, "", true},
		{"tenant", g.tenant, "writes another annotation", other, "", true},
		{"driver", g.driver, "writes a record", record, "", false},
		{"driver", g.driver, "writes a stamp", stamp, "", false},
		{"driver", g.driver, "writes a label", label, "", true},
		{"kubelet", g.kubelet, "writes a record", record, "status", false},
		{"kubelet", g.kubelet, "writes a stamp", stamp, "status", false},
		{"kubelet", g.kubelet, "writes a status", phase, "status", true},
		{"admin", g.admin, "clears a wrong record", noRecord, "", true},
		{"admin", g.admin, "writes a stamp", stamp, "", false},
		{"admin", g.admin, "changes a stamp", changed, "", false},
		{"admin", g.admin, "removes a wrong stamp", noStamp, "", true},
		{"admin", g.admin, "removes a stamp and changes another", oneOfTwo, "", false},
	} {
		t.Run(test.who+" "+test.what, func(t *testing.T) {
			pod := newPod(t, g.namespace, map[string]string{annotations.State: "FAILED", annotations.Injected: "{}", "example.com/mine": "stays"})
			err := patch(t.Context(), test.client, pod, test.text, strings.Fields(test.within)...)
			if !test.allowed {
				err = refused(err)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// After the command of the pages that stops everything, the guards refuse nothing, and
// no webhook is called.
func TestStop(t *testing.T) {
	g := guard(t, "stop", map[string]any{"webhook": map[string]any{"validation": "deny"}})
	ctx, all := t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=stop"}
	line := "kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration,validatingadmissionpolicybinding -l app.kubernetes.io/name=spark-vitals,app.kubernetes.io/instance=spark-vitals\n"
	for _, page := range []string{"README.md", "docs/operations.md", "e2e/chart/testdata/render/default.txtar"} {
		if !strings.Contains(manifest(t, page), line) {
			t.Errorf("%s does not say %s", page, line)
		}
	}
	registrations := admin.AdmissionregistrationV1()
	for what, err := range map[string]error{
		"mutating":   registrations.MutatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, all),
		"validating": registrations.ValidatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, all),
		"bindings":   registrations.ValidatingAdmissionPolicyBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, all),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for _, err := range []error{reads(ctx, admin, "stop-spark-vitals"), validates(ctx, "stop-spark-vitals")} {
		if !apierrors.IsNotFound(err) {
			t.Errorf("a webhook configuration is left: %v", err)
		}
	}
	pod := newPod(t, g.namespace, map[string]string{annotations.Injected: "{}"})
	eventually.Succeeds(t, "the end of the guards", func(ctx context.Context) error {
		return errors.Join(
			patch(ctx, g.tenant, pod, `{"metadata":{"annotations":{"spark-vitals.io/injected":null,"spark-vitals.io/state":"KILLED"}}}`),
			patch(ctx, g.recorder, pod, `{"metadata":{"labels":{"a":"b"}}}`, "status"))
	})
}

func validates(ctx context.Context, configuration string) error {
	_, err := admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	return err
}

// Each account of the chart writes and removes its part of a record, and changes
// nothing else of a pod.
func TestOwnAccounts(t *testing.T) {
	g := guard(t, "own", nil)
	others := map[string]string{
		"a stamp":            `{"metadata":{"annotations":{"spark-vitals.io/memory-limit":"1Gi"}}}`,
		"no stamp":           `{"metadata":{"annotations":{"spark-vitals.io/injected":null}}}`,
		"a setting":          `{"metadata":{"annotations":{"spark-vitals.io/rule":"gentle"}}}`,
		"another annotation": `{"metadata":{"annotations":{"example.com/a":"b"}}}`,
		"a removal":          `{"metadata":{"annotations":{"example.com/mine":null}}}`,
		"a label":            `{"metadata":{"labels":{"a":"b"}}}`,
		"no label":           `{"metadata":{"labels":{"app":null}}}`,
		"a generateName":     `{"metadata":{"generateName":"another-"}}`,
		"a finalizer":        `{"metadata":{"finalizers":["example.com/a"]}}`,
		"a phase":            `{"status":{"phase":"Failed"}}`,
		"a condition":        `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		"an address":         `{"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}]}}`,
	}
	annotated := func(key, value string) string {
		return fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, key, value)
	}
	for who, own := range map[string]struct {
		client kubernetes.Interface
		keys   []string
	}{
		"recorder":   {g.recorder, append(slices.Clone(annotations.Death), annotations.Previous)},
		"stallwatch": {g.stallwatch, []string{annotations.Stalled}},
		"releaser":   {g.releaser, []string{annotations.Released}},
	} {
		t.Run(who, func(t *testing.T) {
			ctx, pods := t.Context(), own.client.CoreV1().Pods(g.namespace)
			pod := newPod(t, g.namespace, map[string]string{annotations.Injected: "{}", "example.com/mine": "stays"})
			for _, key := range annotations.Record {
				for _, value := range []string{`"{}"`, "null"} {
					err := patch(ctx, own.client, pod, annotated(key, value), "status")
					if slices.Contains(own.keys, key) && err != nil {
						t.Errorf("%s: %s: %v", key, value, err)
					} else if !slices.Contains(own.keys, key) {
						// One that is there, for null to change something.
						if err := errors.Join(refused(err), patch(ctx, g.admin, pod, annotated(key, `"{}"`))); err != nil {
							t.Errorf("%s: %s: %v", key, value, err)
						}
					}
				}
			}
			for what, text := range others {
				if err := refused(patch(ctx, own.client, pod, text, "status")); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, create := pods.Create(ctx, pod, metav1.CreateOptions{})
			for what, err := range map[string]error{
				"patch":  patch(ctx, own.client, pod, annotated(own.keys[0], `"{}"`)),
				"delete": pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}),
				"create": create,
			} {
				if !apierrors.IsForbidden(err) {
					t.Errorf("%s pods: %v", what, err)
				}
			}
		})
	}
}

// The recorder writes the condition of a death and changes nothing else of a status. A
// user with the verb can remove it. Kubelets continue to write their own part.
func TestGuardOfTheCondition(t *testing.T) {
	g := guard(t, "condition", nil)
	const (
		kubelets = `{"status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],
			"conditions":[{"type":"PodScheduled","status":"True"},{"type":"Initialized","status":"True"},{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"}],
			"containerStatuses":[{"name":"main","image":"none","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}`
		ended = `{"status":{"$setElementOrder/conditions":[{"type":"ContainersReady"},{"type":"Ready"},{"type":"PodScheduled"}],"phase":"Failed",
			"conditions":[{"type":"ContainersReady","status":"False","reason":"PodFailed"},{"type":"Ready","status":"False","reason":"PodFailed"},{"$patch":"delete","type":"Initialized"}],
			"containerStatuses":[{"name":"main","image":"none","imageID":"","ready":false,"restartCount":0,"state":{"running":null,"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}}`
		death   = `{"type":"spark-vitals.io/Death","status":"True","reason":"DriverOOMKilled","message":"Raise it."}`
		alone   = `{"status":{"conditions":[` + death + `]}}`
		record  = `{"metadata":{"annotations":{"spark-vitals.io/state":"KILLED"}},"status":{"conditions":[` + death + `]}}`
		changed = `{"status":{"conditions":[{"type":"spark-vitals.io/Death","reason":"DriverHung"}]}}`
		denied  = `{"status":{"conditions":[{"type":"spark-vitals.io/Death","status":"False"}]}}`
		removed = `{"status":{"conditions":[{"$patch":"delete","type":"spark-vitals.io/Death"}]}}`
		ready   = `{"status":{"conditions":[` + death + `,{"type":"Ready","status":"False"}]}}`
		another = `{"status":{"conditions":[` + death + `,{"type":"example.com/Death","status":"True"}]}}`
		without = `{"status":{"conditions":[` + death + `,{"$patch":"delete","type":"Ready"}]}}`
		replace = `{"status":{"conditions":[` + death + `,{"$patch":"replace"}]}}`
		phase   = `{"status":{"phase":"Failed","conditions":[` + death + `]}}`
		status  = `{"status":{"containerStatuses":[{"name":"main","ready":false}],"conditions":[` + death + `]}}`
		field   = `{"status":{"reason":"Evicted","conditions":[` + death + `]}}`
		less    = `{"status":{"podIP":null,"podIPs":null,"conditions":[` + death + `]}}`
	)
	for _, test := range []struct {
		who     string
		client  kubernetes.Interface
		what    string
		dead    bool // the condition stands
		text    string
		allowed bool
		within  string
	}{
		{"recorder", g.recorder, "adds it", false, alone, true, "status"},
		{"recorder", g.recorder, "adds it with the record", false, record, true, "status"},
		{"recorder", g.recorder, "changes it", true, changed, true, "status"},
		{"recorder", g.recorder, "adds it with a text that fills etcd", false, strings.Replace(alone, "Raise it.", strings.Repeat("Raise it.", 300), 1), false, "status"},
		{"recorder", g.recorder, "removes it", true, removed, false, "status"},
		{"recorder", g.recorder, "changes Ready besides", false, ready, false, "status"},
		{"recorder", g.recorder, "adds another condition besides", true, another, false, "status"},
		{"recorder", g.recorder, "removes Ready besides", true, without, false, "status"},
		{"recorder", g.recorder, "replaces all conditions", false, replace, false, "status"},
		{"recorder", g.recorder, "changes the phase besides", false, phase, false, "status"},
		{"recorder", g.recorder, "changes a container's status besides", true, status, false, "status"},
		{"recorder", g.recorder, "adds a field besides", false, field, false, "status"},
		{"recorder", g.recorder, "removes a field besides", true, less, false, "status"},
		{"stallwatch", g.stallwatch, "adds it", false, alone, false, "status"},
		{"releaser", g.releaser, "changes it", true, changed, false, "status"},
		{"kubelet", g.kubelet, "adds it", false, alone, false, "status"},
		{"kubelet", g.kubelet, "adds it with its own", false, ready, false, "status"},
		{"kubelet", g.kubelet, "changes its reason", true, changed, false, "status"},
		{"kubelet", g.kubelet, "says that it is false", true, denied, false, "status"},
		{"kubelet", g.kubelet, "removes it", true, removed, false, "status"},
		{"kubelet", g.kubelet, "ends its container", false, ended, true, "status"},
		{"kubelet", g.kubelet, "ends its container beside it", true, ended, true, "status"},
		{"kubelet", g.kubelet, "writes it as it is", true, ready, true, "status"},
		{"admin", g.admin, "adds it", false, alone, true, "status"},
		{"admin", g.admin, "removes it", true, removed, true, "status"},
		{"tenant", g.tenant, "labels a pod that has it", true, `{"metadata":{"labels":{"a":"b"}}}`, true, ""},
	} {
		t.Run(test.who+" "+test.what, func(t *testing.T) {
			pod := newPod(t, g.namespace, map[string]string{"example.com/mine": "stays"})
			before := []string{kubelets}
			if test.dead {
				before = append(before, alone)
			}
			for _, text := range before {
				if err := patch(t.Context(), g.admin, pod, text, "status"); err != nil {
					t.Fatal(err)
				}
			}
			err := patch(t.Context(), test.client, pod, test.text, strings.Fields(test.within)...)
			if !test.allowed {
				err = refused(err)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a pod that brings it", func(t *testing.T) {
		pod, err := g.tenant.CoreV1().Pods(g.namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: annotations.DeathCondition, Status: corev1.ConditionTrue}}},
		}, metav1.CreateOptions{})
		if err != nil || len(pod.Status.Conditions) > 0 {
			t.Errorf("%v, %+v", err, pod.Status.Conditions)
		}
	})
	t.Run("beside conditions that stand there twice", func(t *testing.T) {
		pod := newPod(t, g.namespace, nil)
		if err := patch(t.Context(), g.admin, pod, kubelets, "status"); err != nil {
			t.Fatal(err)
		}
		live, err := g.admin.CoreV1().Pods(g.namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		live.Status.Conditions = append(live.Status.Conditions, corev1.PodCondition{Type: "example.com/a", Status: corev1.ConditionTrue}, live.Status.Conditions[0])
		if _, err := g.admin.CoreV1().Pods(g.namespace).UpdateStatus(t.Context(), live, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := patch(t.Context(), g.recorder, pod, alone, "status"); err != nil {
			t.Error(err)
		}
	})
	t.Run("who writes the whole status", func(t *testing.T) {
		pod := newPod(t, g.namespace, nil)
		if err := errors.Join(patch(t.Context(), g.admin, pod, kubelets, "status"), patch(t.Context(), g.admin, pod, alone, "status")); err != nil {
			t.Fatal(err)
		}
		for keeps, allowed := range map[bool]bool{true: true, false: false} {
			live, err := g.admin.CoreV1().Pods(g.namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			slices.Reverse(live.Status.Conditions)
			live.Status.Message = fmt.Sprint("keeps it: ", keeps)
			if !keeps {
				live.Status.Conditions = slices.DeleteFunc(live.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == annotations.DeathCondition })
			}
			_, err = g.kubelet.CoreV1().Pods(g.namespace).UpdateStatus(t.Context(), live, metav1.UpdateOptions{})
			if allowed != (err == nil) || !allowed && refused(err) != nil {
				t.Errorf("keeps the condition: %v: %v", keeps, err)
			}
		}
	})
}

// The guards look at each condition of a pod. However many there are, no expression
// fails.
func TestManyConditions(t *testing.T) {
	g := guard(t, "conditions", nil)
	before := failures(t)
	for _, n := range []int{300, 5000} {
		var many []string
		for i := range n {
			many = append(many, fmt.Sprintf(`{"type":"example.com/condition-%d","status":"True"}`, i))
		}
		pod := newPod(t, g.namespace, nil)
		for who, client := range map[string]kubernetes.Interface{"kubelet": g.kubelet, "recorder": g.recorder} {
			text := map[string]string{
				"kubelet":  `{"status":{"conditions":[` + strings.Join(many, ",") + `]}}`,
				"recorder": `{"status":{"conditions":[{"type":"spark-vitals.io/Death","status":"True"}]}}`,
			}[who]
			begun := time.Now()
			if err := patch(t.Context(), client, pod, text, "status"); err != nil {
				t.Errorf("the %s writes beside %d conditions: %v", who, n, err)
			}
			t.Logf("the %s writes beside %d conditions in %s", who, n, time.Since(begun))
		}
	}
	if n := failures(t) - before; n > 0 {
		t.Errorf("%v evaluations of guards failed", n)
	}
}

// The cost of the guards grows with the number of annotations, which a user chooses. If
// there are too many, the guard of accounts looks at none. (A write beside that many
// takes the API server seconds, and it gives up after 34 s.)
func TestManyAnnotations(t *testing.T) {
	g := guard(t, "many", nil)
	before := failures(t)
	for n, allowed := range map[int]bool{1990: true, 20000: false} {
		with := map[string]string{}
		for i := range n {
			with[strconv.Itoa(i)] = ""
		}
		pod := newPod(t, g.namespace, with)
		err := patch(t.Context(), g.recorder, pod, `{"metadata":{"annotations":{"spark-vitals.io/state":"KILLED"}}}`, "status")
		if allowed != (err == nil) || !allowed && (refused(err) != nil || !strings.Contains(err.Error(), "more than 2000")) {
			t.Errorf("the recorder writes beside %d annotations: %v", n, err)
		}
		if err := patch(t.Context(), g.kubelet, pod, `{"status":{"phase":"Failed"}}`, "status"); err != nil {
			t.Errorf("the kubelet writes beside %d annotations: %v", n, err)
		}
	}
	if n := failures(t) - before; n > 1 { // the refusal
		t.Errorf("%v evaluations of guards failed", n-1)
	}
}

// A Binding's annotations become the pod's. By default they are reported in the audit
// log; refusing them is an option.
func TestGuardOfBindings(t *testing.T) {
	g := guard(t, "bind", map[string]any{"guards": map[string]any{"bindingActions": []any{"Deny"}}})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	if _, err := admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scheduler := as(t, "system:kube-scheduler")
	bind := func(ctx context.Context, with map[string]string, legacy bool) error {
		pod := newPod(t, g.namespace, with)
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: g.namespace, Name: pod.Name, Annotations: with}, Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}
		if legacy {
			return scheduler.CoreV1().RESTClient().Post().Namespace(g.namespace).Resource("bindings").Body(binding).Do(ctx).Error()
		}
		return scheduler.CoreV1().Pods(g.namespace).Bind(ctx, binding, metav1.CreateOptions{})
	}
	eventually.Succeeds(t, "the guard of bindings", func(ctx context.Context) error {
		return refused(bind(ctx, map[string]string{annotations.State: "KILLED"}, false))
	})
	for _, legacy := range []bool{false, true} {
		for key, allowed := range map[string]bool{annotations.Reason: false, annotations.MemoryLimit: false, "example.com/topology": true, "": true} {
			with := map[string]string{key: "value"}
			if key == "" {
				with = nil
			}
			if err := bind(t.Context(), with, legacy); allowed != (err == nil) || !allowed && refused(err) != nil {
				t.Errorf("Binding with %q (legacy %v): %v", key, legacy, err)
			}
		}
	}
	// As said in docs/security.md, for schedulers that copy the pod's annotations.
	writer := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "records"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"spark-vitals.io"}, Resources: []string{"records"}, Verbs: []string{"write"}}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(t.Context(), writer, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	allow(t, g.namespace, writer.Name, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "system:kube-scheduler"})
	eventually.Succeeds(t, "a Binding with the pod's own stamps, by who holds the verb", func(ctx context.Context) error {
		return bind(ctx, map[string]string{annotations.Injected: "{}", annotations.MemoryLimit: "1Gi"}, false)
	})
}

// Nobody else notices the guards: nothing is refused, no expression fails, and
// thousands of status writes are hardly slower.
func TestNobodyElseNotices(t *testing.T) {
	g := guard(t, "quiet", nil)
	ctx, before := t.Context(), failures(t)
	t.Run("captured pods and restored copies", func(t *testing.T) {
		for _, review := range captured.Reviews() {
			if !strings.Contains(review.Name, "driver") && !strings.Contains(review.Name, "executor") || strings.Contains(review.Name, "-service") || strings.Contains(review.Name, "configmap") {
				continue
			}
			pod, err := cluster.CapturedPod(review, g.namespace)
			if err != nil {
				t.Fatal(err)
			}
			pod.Name, pod.GenerateName, pod.ResourceVersion, pod.UID = "", "copy-", "", ""
			pod.Annotations = map[string]string{annotations.State: "KILLED", annotations.OOM: "{}", annotations.Injected: "{}"}
			made, err := g.tenant.CoreV1().Pods(g.namespace).Create(ctx, pod, metav1.CreateOptions{})
			if err != nil {
				t.Errorf("%s: %v", review.Name, err)
				continue
			}
			if err := patch(ctx, g.kubelet, made, `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`, "status"); err != nil {
				t.Errorf("%s: status: %v", review.Name, err)
			}
			update := made.DeepCopy()
			update.ResourceVersion, update.Labels["restored"] = "", "true"
			if _, err := g.tenant.CoreV1().Pods(g.namespace).Update(ctx, update, metav1.UpdateOptions{}); err != nil {
				t.Errorf("%s: update: %v", review.Name, err)
			}
		}
	})
	t.Run("evictions and deletions", func(t *testing.T) {
		for _, with := range []map[string]string{nil, {}, {annotations.State: "KILLED"}} {
			pod := newPod(t, g.namespace, with)
			eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: g.namespace, Name: pod.Name}}
			if err := admin.PolicyV1().Evictions(g.namespace).Evict(ctx, eviction); err != nil {
				t.Error(err)
			}
			pod = newPod(t, g.namespace, with)
			if err := g.tenant.CoreV1().Pods(g.namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("pods of Jobs", func(t *testing.T) {
		jobs := as(t, "system:serviceaccount:kube-system:job-controller", "system:serviceaccounts")
		allow(t, g.namespace, "system:controller:job-controller", rbacv1.Subject{Kind: "ServiceAccount", Name: "job-controller", Namespace: "kube-system"})
		eventually.Succeeds(t, "its rights", func(ctx context.Context) error { return patch(ctx, jobs, newPod(t, g.namespace, nil), `{}`) })
		for _, with := range []map[string]string{nil, {}, {annotations.State: "KILLED", annotations.Injected: "{}"}} {
			pod := newPod(t, g.namespace, with)
			for _, text := range []string{`["batch.kubernetes.io/job-tracking"]`, `null`} {
				if err := patch(ctx, jobs, pod, `{"metadata":{"finalizers":`+text+`}}`); err != nil {
					t.Errorf("a finalizer becomes %s: %v", text, err)
				}
			}
		}
	})
	t.Run("status writes", func(t *testing.T) { statusWrites(t, g, *writes) })
	if n := failures(t) - before; n > 0 {
		t.Errorf("%v evaluations of guards failed", n)
	}
	// Told in the audit log, which counts as a refusal.
	t.Run("bindings, by default", func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "quiet"}}
		if _, err := admin.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		scheduler := as(t, "system:kube-scheduler")
		for _, with := range []map[string]string{nil, {annotations.Injected: "{}", annotations.MemoryLimit: "1Gi"}} {
			pod := newPod(t, g.namespace, with)
			binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: g.namespace, Name: pod.Name, Annotations: with}, Target: corev1.ObjectReference{Kind: "Node", Name: "quiet"}}
			if err := scheduler.CoreV1().Pods(g.namespace).Bind(ctx, binding, metav1.CreateOptions{}); err != nil {
				t.Errorf("a Binding with %v: %v", with, err)
			}
		}
	})
}

// failures counts the failed expressions of policies. The API server counts a refusal
// as one.
func failures(t *testing.T) float64 {
	t.Helper()
	all := func(map[string]string) bool { return true }
	return apiMetric(t, "apiserver_admission_match_condition_evaluation_errors_total", all) +
		apiMetric(t, "apiserver_validating_admission_policy_check_total", func(labels map[string]string) bool { return labels["error_type"] != "no_error" })
}

// statusWrites writes statuses of pods with and without annotations, as kubelets do.
func statusWrites(t *testing.T, g guarded, writes int) {
	t.Helper()
	var pods []*corev1.Pod
	for i := range 50 {
		with := map[string]string{}
		for j := range i {
			with[fmt.Sprintf("example.com/%d", j)] = strings.Repeat("x", 100)
		}
		if i%5 == 0 {
			with[annotations.Injected], with[annotations.State] = "{}", "KILLED"
		}
		if i%7 == 0 {
			with = nil
		}
		pods = append(pods, newPod(t, g.namespace, with))
	}
	var done atomic.Int64
	var workers sync.WaitGroup
	spent := func() float64 {
		return apiMetric(t, "apiserver_admission_match_condition_evaluation_seconds", func(map[string]string) bool { return true })
	}
	begun, before := time.Now(), spent()
	for range 8 {
		workers.Go(func() {
			for n := done.Add(1); n <= int64(writes); n = done.Add(1) {
				text := fmt.Sprintf(`{"status":{"message":"write %d"}}`, n)
				if err := patch(t.Context(), g.kubelet, pods[rand.N(len(pods))], text, "status"); err != nil {
					t.Errorf("write %d: %v", n, err)
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d status writes in %s; the API server spent %.3f ms on match conditions in each", writes, time.Since(begun).Round(time.Millisecond), (spent()-before)/float64(writes)*1000)
}

// apiMetric returns the sum of a metric of the API server; for a histogram, its sum.
func apiMetric(t *testing.T, name string, with func(labels map[string]string) bool) (sum float64) {
	t.Helper()
	text, err := admin.Discovery().RESTClient().Get().AbsPath("/metrics").Do(t.Context()).Raw()
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[name].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if with(labels) {
			sum += m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return sum
}
