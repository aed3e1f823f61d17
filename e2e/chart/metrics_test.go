package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A real Prometheus scrapes an API server and everything that the chart runs, as the
// chart runs it. Each metric that an alert or a panel uses exists with the labels that
// it uses. Each name passes Prometheus' linter, and each is documented.
func TestMetricsAreServed(t *testing.T) {
	targets := map[string]string{}
	for job, address := range runChart(t, "metrics") {
		targets[job] = "http://" + address
	}
	documented := manifest(t, "docs/operations.md")
	served := 0
	for job, target := range targets {
		text := fetch(t, target+"/metrics")
		for family := range families(t, text) {
			served++
			if !strings.Contains(documented, "`"+family+"`") {
				t.Errorf("docs/operations.md does not name %s, a metric of the %s", family, job)
			}
		}
		lint := exec.CommandContext(t.Context(), prometheus(t, "promtool"), "check", "metrics")
		lint.Stdin = strings.NewReader(text)
		out, err := lint.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "spark_vitals_") || !regexp.MustCompile(`^[a-z0-9_]+ `).MatchString(line) {
				t.Errorf("promtool of the %s: %s", job, line)
			}
		}
	}
	if served == 0 {
		t.Fatal("nothing is served")
	}

	api := startPrometheus(t, targets)
	_, alerts, panels := monitoring(t)
	for what, expression := range merged(alerts, panels) {
		t.Run(what, func(t *testing.T) {
			ask(t, api, "query", url.Values{"query": {expression}}) // also what a real Prometheus makes of it
			for selector, labels := range selectors(t, expression) {
				eventually.Succeeds(t, selector, func(context.Context) error { return hasSeries(t, api, selector, labels) })
			}
		})
	}
}

func merged(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, each := range all {
		maps.Copy(m, each)
	}
	return m
}

// families returns spark-vitals' own metrics that an endpoint serves.
func families(t *testing.T, text string) map[string]bool {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for name := range all {
		if strings.HasPrefix(name, "spark_vitals_") {
			own[name] = true
		}
	}
	return own
}

// selectors returns the selectors of an expression, such as up{job="a"}, with the
// labels by which it groups or matches them.
func selectors(t *testing.T, expression string) map[string][]string {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		var labels []string
		below := append(slices.Clone(path), node)[1:]
		for i, above := range path {
			switch above := above.(type) {
			case *parser.AggregateExpr:
				labels = append(labels, above.Grouping...)
			case *parser.BinaryExpr:
				if above.Op == parser.LAND && below[i] == above.RHS { // no label of it is in the result
					labels = nil
				}
				if above.VectorMatching != nil { // not beside a number
					labels = append(labels, above.VectorMatching.MatchingLabels...)
				}
			}
		}
		for _, m := range v.LabelMatchers {
			labels = append(labels, m.Name)
		}
		bare := parser.VectorSelector{Name: v.Name, LabelMatchers: v.LabelMatchers}
		all[bare.String()] = append(all[bare.String()], labels...)
		return nil
	})
	return all
}

func hasSeries(t *testing.T, api, selector string, labels []string) error {
	t.Helper()
	var series []map[string]string
	if err := json.Unmarshal(ask(t, api, "series", url.Values{"match[]": {selector}}), &series); err != nil {
		t.Fatal(err)
	}
	if len(series) == 0 {
		return fmt.Errorf("nothing serves %s", selector)
	}
	for _, label := range labels {
		if !slices.ContainsFunc(series, func(s map[string]string) bool { return s[label] != "" }) {
			return fmt.Errorf("no series of %s has a label %s", selector, label)
		}
	}
	return nil
}

// ask calls Prometheus' API, which must succeed.
func ask(t *testing.T, api, what string, parameters url.Values) json.RawMessage {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(fetch(t, api+"/api/v1/"+what+"?"+parameters.Encode())), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Status != "success" {
		t.Fatalf("%s %v: %s", what, parameters, answer.Error)
	}
	return answer.Data
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startPrometheus runs Prometheus until the test ends, and returns its URL.
func startPrometheus(t *testing.T, targets map[string]string) string {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	var config bytes.Buffer
	fmt.Fprintf(&config, "global: {scrape_interval: 1s}\nrule_files: [alerts.yaml]\nscrape_configs:\n")
	// As the chart's PodMonitor has it.
	for job, target := range targets {
		fmt.Fprintf(&config, "- {job_name: %s, honor_labels: true, static_configs: [{targets: [%q]}]}\n", job, strings.TrimPrefix(target, "http://"))
	}
	fmt.Fprintf(&config, "- {job_name: apiserver, scheme: https, tls_config: {ca_file: %s}, authorization: {credentials: %s}, static_configs: [{targets: [%q]}]}\n",
		filepath.Join(controlPlane.Dir, "ca.crt"), controlPlane.Config.BearerToken, strings.TrimPrefix(controlPlane.Config.Host, "https://"))
	rules, _, _ := monitoring(t)
	for file, text := range map[string]string{"prometheus.yaml": config.String(), "alerts.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	background(t, prometheus(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	eventually.Succeeds(t, "Prometheus", ready("http://"+address+"/-/ready"))
	return "http://" + address
}

func ready(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			err = errors.New(response.Status)
		}
		return err
	}
}

// runChart installs the chart with all jobs and runs their Deployments' commands beside
// the cluster, with their accounts. It causes some of what the metrics count, and
// returns where each job serves its metrics.
func runChart(t *testing.T, name string) map[string]string {
	t.Helper()
	ctx := t.Context()
	team := namespaceWith(t, name+"-team", map[string]string{annotations.Inject: "enabled"})
	t.Cleanup(func() { removeDefinition(t) })
	install(t, name, map[string]any{
		"policy": "rules: [{name: driver, match: {role: driver}, logStall: {after: 1m}}]",
		"webhook": map[string]any{"matchConditions": []any{map[string]any{
			"name": "fails", "expression": "!('broken' in object.metadata.labels) || object.metadata.labels['none'] == ''", // for a pod with that label
		}}},
		"stallwatch": map[string]any{"enabled": true},
		"sparkJobs":  map[string]any{"enabled": true},
		"releaser": map[string]any{"enabled": true, "config": map[string]any{
			"namespaces": []any{team}, "zookeeper": map[string]any{"servers": []any{"127.0.0.1:1"}}, "servers": map[string]any{"urls": []any{"http://127.0.0.1:1"}},
		}},
	})
	binary, err := cluster.Build(ctx, "cmd/spark-vitals", "spark-vitals", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	reviews := freeAddress(t)
	redirect(t, name, name+"-spark-vitals-webhook", name+"-spark-vitals", reviews)
	kubelet := cluster.Kubelet{Interface: admin}
	if _, err := kubelet.Driver(ctx, team, "missed"); err != nil { // no webhook runs yet
		t.Fatal(err)
	}
	refuse(t, name+"-spark-vitals", team)
	failAndForbid(t, name, team)
	deployments, err := admin.AppsV1().Deployments(name).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	run := func(d appsv1.Deployment, more ...string) {
		job := d.Labels["app.kubernetes.io/component"]
		at[job] = freeAddress(t)
		health := freeAddress(t)
		args := append(mounted(t, d), append(more, "--metrics-bind-address="+at[job], "--health-probe-bind-address="+health)...)
		kubeconfig := tokenKubeconfig(t, name, d.Spec.Template.Spec.ServiceAccountName)
		switch job {
		case "webhook":
			args = append(args, "--bind-address="+reviews, "--shutdown-delay=0s")
		case "recorder", "certs":
			args = append(args, "--kubeconfig="+kubeconfig)
		default: // that are leader elected
			args = append(args, "--namespace="+name)
		}
		background(t, "/usr/bin/env", append([]string{"KUBECONFIG=" + kubeconfig, binary}, args...)...)
		eventually.Succeeds(t, job, ready("http://"+health+"/readyz"))
	}
	for _, first := range []bool{true, false} { // the keeper fills the Secret that the webhook mounts
		for _, d := range deployments.Items {
			if keeper := strings.HasSuffix(d.Name, "-certs"); keeper && first {
				run(d, "--host=127.0.0.1")
				trust(t, name, name+"-spark-vitals")
			} else if keeper == first {
				run(d)
			}
		}
	}
	tries := 0
	eventually.Succeeds(t, "the webhook is called", func(ctx context.Context) error {
		tries++
		var drivers [2]*corev1.Pod
		for i, fate := range []string{"lives", "dies"} {
			driver, err := kubelet.Run(ctx, team, fmt.Sprintf("%s-%d", fate, tries), "nightly")
			if err == nil && driver.Annotations[annotations.Injected] == "" {
				err = errors.Join(errors.New("nothing was injected"), kubelet.Remove(ctx, driver))
			}
			if err != nil {
				return err
			}
			drivers[i] = driver
		}
		_, err := kubelet.Die(ctx, drivers[1], "OOMKilled", 137)
		return err
	})
	return at
}

// failAndForbid lets a match condition fail, and a guard forbid something.
func failAndForbid(t *testing.T, release, namespace string) {
	t.Helper()
	labels := map[string]string{spark.RoleLabel: string(spark.Driver), "broken": ""}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "broken-", Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}}}
	pod, err := admin.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	recorder := withToken(t, release, release+"-spark-vitals-recorder")
	tries := 0
	eventually.Succeeds(t, "the guard of accounts", func(ctx context.Context) error {
		tries++
		return refused(patch(ctx, recorder, pod, fmt.Sprintf(`{"metadata":{"labels":{"try":"%d"}}}`, tries), "status"))
	})
}

// refuse creates an executor while no webhook runs, and for this once with the
// failurePolicy Fail.
func refuse(t *testing.T, configuration, namespace string) {
	t.Helper()
	registrations := admin.AdmissionregistrationV1().MutatingWebhookConfigurations()
	for _, policy := range []admissionregistrationv1.FailurePolicyType{admissionregistrationv1.Fail, admissionregistrationv1.Ignore} {
		m, err := registrations.Get(t.Context(), configuration, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Webhooks {
			m.Webhooks[i].FailurePolicy = &policy
		}
		if _, err := registrations.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually.Succeeds(t, string(policy), func(ctx context.Context) error {
			_, err := cluster.AskOnce(ctx, admin, namespace)
			if refused := err != nil; refused != (policy == admissionregistrationv1.Fail) {
				return fmt.Errorf("refused is %v: %w", refused, err)
			}
			return nil
		})
	}
}

// mounted returns the arguments of a Deployment's container, with its volumes where a
// test can read them.
func mounted(t *testing.T, d appsv1.Deployment) []string {
	t.Helper()
	pod := d.Spec.Template.Spec
	replace := []string{}
	for _, mount := range pod.Containers[0].VolumeMounts {
		dir := t.TempDir()
		replace = append(replace, mount.MountPath, dir)
		volume := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })]
		for key, value := range contents(t, d.Namespace, volume) {
			if err := os.WriteFile(filepath.Join(dir, key), value, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := slices.Clone(pod.Containers[0].Args)
	for i := range args {
		args[i] = strings.NewReplacer(replace...).Replace(args[i])
	}
	return args
}

func contents(t *testing.T, namespace string, v corev1.Volume) map[string][]byte {
	t.Helper()
	if v.Secret != nil {
		secret, err := admin.CoreV1().Secrets(namespace).Get(t.Context(), v.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return secret.Data
	}
	config, err := admin.CoreV1().ConfigMaps(namespace).Get(t.Context(), v.ConfigMap.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data := map[string][]byte{}
	for key, value := range config.Data {
		data[key] = []byte(value)
	}
	return data
}
