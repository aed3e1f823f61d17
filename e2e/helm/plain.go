package helm

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Manifest is what one template of the chart becomes, for use without Helm: it has no
// labels and annotations that only Helm reads.
func Manifest(template string, values map[string]any) (string, error) {
	return manifest("spark-vitals", template, values, func(string) bool { return true })
}

// Rights is a [Manifest] without workloads: the service account of a job, what it may
// do, and its lease. The release and its namespace have the same name.
func Rights(name, template string, values map[string]any) (string, error) {
	return manifest(name, template, values, func(kind string) bool {
		return slices.Contains([]string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Lease"}, kind)
	})
}

func manifest(name, template string, values map[string]any, wanted func(kind string) bool) (string, error) {
	rendered, err := render(name, values)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, document := range strings.Split(rendered.Objects, "---\n# Source: spark-vitals/templates/")[1:] {
		source, content, _ := strings.Cut(document, "\n")
		if source != template+".yaml" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(content), &o.Object); err != nil {
			return "", fmt.Errorf("reading an object of %s: %w", template, err)
		}
		if len(o.Object) == 0 || !wanted(o.GetKind()) {
			continue
		}
		data, err := yaml.Marshal(plain(o).Object)
		if err != nil {
			return "", err
		}
		text.WriteString("---\n" + string(data))
	}
	return text.String(), nil
}

// plain removes from an object what only Helm reads.
func plain(o *unstructured.Unstructured) *unstructured.Unstructured {
	o.SetAnnotations(nil)
	labels := o.GetLabels()
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	o.SetLabels(labels)
	unstructured.RemoveNestedField(o.Object, "immutable") // Helm gives a changed object another name
	return o
}
