package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
)

// Those without Helm get the same, as plain manifests.
func TestPlainManifests(t *testing.T) {
	for file, m := range map[string]struct {
		head, templates string
		values          map[string]any
		hooks           bool
	}{
		"certs/manifests/cert-manager.yaml": {
			"# The webhook's certificate by cert-manager. Annotate the webhook configurations with\n# cert-manager.io/inject-ca-from: spark-vitals/spark-vitals-certs.\n",
			"certificates", map[string]any{"certificates": map[string]any{"mode": "cert-manager"}}, true,
		},
		"certs/manifests/self-kept.yaml": {
			"# The webhook's certificate kept by spark-vitals itself. When the Job is done, delete\n# everything called spark-vitals-certs-trust: nobody keeps a right on webhook configurations.\n",
			"certificates", map[string]any{"certificates": map[string]any{"mode": "self-kept"}}, true,
		},
		"gateway/releaser/manifest.yaml": {
			"# \"spark-vitals releaser\" with its rights, and no others, as the chart makes it of the\n# values in docs/kyuubi.md, by make golden. Kyuubi's servers are in the namespace kyuubi,\n# engines in spark: copy their Role and RoleBinding for each namespace of the configuration.\n# The Secret spark-vitals-kyuubi is yours. After a change of the configuration, which is\n# read once: kubectl -n spark-vitals rollout restart deployment spark-vitals-releaser.\n",
			"releaser", releaserOfPage(t), false,
		},
	} {
		rendered, err := helm.Render(m.values)
		if err != nil {
			t.Fatal(err)
		}
		documents := rendered.Objects
		if m.hooks {
			documents += rendered.Hooks
		}
		var text strings.Builder
		text.WriteString(m.head)
		for _, document := range strings.Split(documents, "---\n# Source: spark-vitals/templates/")[1:] {
			source, manifest, _ := strings.Cut(document, "\n")
			if !strings.HasPrefix(source, m.templates) {
				continue
			}
			for _, o := range objects(t, manifest) {
				data, err := yaml.Marshal(plain(o).Object)
				if err != nil {
					t.Fatal(err)
				}
				text.WriteString("---\n" + string(data))
			}
		}
		root, err := cluster.Root()
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(root, file)
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), text.String()); diff != "" {
			t.Errorf("%s (-file +chart):\n%s", file, diff)
		}
	}
}

// plain is an object without what only Helm reads.
func plain(o *unstructured.Unstructured) *unstructured.Unstructured {
	o.SetAnnotations(nil)
	labels := o.GetLabels()
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	o.SetLabels(labels)
	unstructured.RemoveNestedField(o.Object, "immutable") // Helm gives what changed another name
	return o
}

// releaserOfPage are the values of docs/kyuubi.md.
func releaserOfPage(t *testing.T) (values map[string]any) {
	t.Helper()
	_, rest, _ := strings.Cut(manifest(t, "docs/kyuubi.md"), "```yaml\nreleaser:")
	block, _, found := strings.Cut(rest, "```")
	if err := yaml.Unmarshal([]byte("releaser:"+block), &values); err != nil || !found {
		t.Fatal(err)
	}
	return values
}

// The configuration of the page is one that the releaser takes, and each file that
// it names is in the Secret that the page makes, which the releaser's pod has.
func TestPlainReleaserFindsItsFiles(t *testing.T) {
	var c *kyuubi.Config
	var pod corev1.PodSpec
	for _, o := range objects(t, manifest(t, "gateway/releaser/manifest.yaml")) {
		switch {
		case o.GetKind() == "Deployment":
			pod = podOf(t, o).Spec
		case o.GetKind() == "ConfigMap" && typed[corev1.ConfigMap](t, o).Data != nil:
			var err error
			if c, err = kyuubi.ParseConfig([]byte(typed[corev1.ConfigMap](t, o).Data["config.yaml"])); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, line, _ := strings.Cut(manifest(t, "docs/kyuubi.md"), "create secret generic ")
	line, _, _ = strings.Cut(line, "\n")
	secret, keys, _ := strings.Cut(line, " ")
	for _, file := range []string{c.ZooKeeper.DigestFile, c.Servers.Basic.UserFile, c.Servers.Basic.PasswordFile} {
		mount := slices.IndexFunc(pod.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == filepath.Dir(file) })
		if !slices.Contains(strings.Fields(keys), "--from-file="+filepath.Base(file)) || mount < 0 {
			t.Errorf("%s is not in the Secret, or not mounted", file)
			continue
		}
		volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == pod.Containers[0].VolumeMounts[mount].Name })
		if v := pod.Volumes[volume].Secret; v == nil || v.SecretName != secret {
			t.Errorf("%s is not of the Secret %s", file, secret)
		}
	}
}
