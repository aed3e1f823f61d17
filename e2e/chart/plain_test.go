package chart

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
	"github.com/spark-vitals/spark-vitals/internal/golden"
)

// The manifests for use without Helm are made from the chart.
func TestPlainManifests(t *testing.T) {
	for file, m := range map[string]struct {
		head, template string
		values         map[string]any
		make           func(template string, values map[string]any) (string, error)
	}{
		"recorder/role.yaml": {
			`# The rights of "spark-vitals recorder", and no others, as "make golden" makes them from the
# chart. charts/spark-vitals/templates/recorder.yaml has the reason for each.
# --namespaces and --read-configmaps need others, which this prints for the values
# recorder.namespaces and recorder.readConfigMaps:
# helm template spark-vitals charts/spark-vitals -n spark-vitals -s templates/recorder.yaml
`,
			"recorder", nil, rights,
		},
		"stall/watch/role.yaml": {
			`# The rights of "spark-vitals stallwatch", and no others, as "make golden" makes them from
# the chart. charts/spark-vitals/templates/stallwatch.yaml has the reason for each.
# --namespaces needs others, which this prints for the value stallwatch.namespaces:
# helm template spark-vitals charts/spark-vitals -n spark-vitals -s templates/stallwatch.yaml --set stallwatch.enabled=true
`,
			"stallwatch", map[string]any{"stallwatch": map[string]any{"enabled": true}}, rights,
		},
		"gateway/releaser/manifest.yaml": {
			`# "spark-vitals releaser" with its rights, and no others, as the chart makes it of the
# values in docs/kyuubi.md, by make golden. Kyuubi's servers are in the namespace kyuubi,
# engines in spark: copy their Role and RoleBinding for each namespace of the configuration.
# The Secret spark-vitals-kyuubi is yours. After a change of the configuration, which is
# read once: kubectl -n spark-vitals rollout restart deployment spark-vitals-releaser.
`,
			"releaser", releaserOfPage(t), helm.Manifest,
		},
	} {
		made, err := m.make(m.template, m.values)
		if err != nil {
			t.Fatal(err)
		}
		root, err := cluster.Root()
		if err != nil {
			t.Fatal(err)
		}
		golden.Holds(t, filepath.Join(root, file), m.head+made)
	}
}

func rights(template string, values map[string]any) (string, error) {
	return helm.Rights("spark-vitals", template, values)
}

// releaserOfPage returns the values of docs/kyuubi.md.
func releaserOfPage(t *testing.T) (values map[string]any) {
	t.Helper()
	_, rest, _ := strings.Cut(manifest(t, "docs/kyuubi.md"), "```yaml\nreleaser:")
	block, _, found := strings.Cut(rest, "```")
	if err := yaml.Unmarshal([]byte("releaser:"+block), &values); err != nil || !found {
		t.Fatal(err)
	}
	return values
}

// The releaser accepts the configuration of the page. Each file that it names is in the
// Secret that the page creates, and in the releaser's pod.
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
