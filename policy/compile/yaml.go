package compile

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

const head = `# spark-vitals as admission policies of Kubernetes 1.36 and later, made by "spark-vitals
# policy compile". The API server itself injects, in namespaces with the label
# spark-vitals.io/inject=enabled, or =audit to only annotate. See docs/policy-engine.md.
#
# What differs from the webhook:
`

// YAML returns the objects as a file for kubectl apply, with the differences from the
// webhook at its head. The source is the policy's text. The chart knows by its sum which
// policy the file was compiled from.
func (c Compiled) YAML(source []byte) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(head)
	for _, difference := range Differences {
		b.WriteString("# - " + difference + "\n")
	}
	fmt.Fprintf(&b, "#\n# Compiled from a policy with the SHA-256 %x.\n", sha256.Sum256(bytes.TrimSpace(source)))
	for i := range c.Policies {
		for _, object := range []any{c.Policies[i], c.Bindings[i]} {
			data, err := marshal(object)
			if err != nil {
				return nil, err
			}
			b.WriteString("---\n" + string(data))
		}
	}
	return b.Bytes(), nil
}

// marshal writes an object for readers: a name comes before an expression, and the
// variables before the patch that uses them.
func marshal(object any) ([]byte, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var fields any
	if err := decoder.Decode(&fields); err != nil {
		return nil, err
	}
	return yaml.Marshal(ordered(fields))
}

// order is the fields that do not come in the order of their names.
var order = []string{"apiVersion", "kind", "metadata", "name", "matchConstraints", "variables", "patchType", "mutations"}

func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		var all yaml.MapSlice
		for key, value := range v {
			if value != nil && key != "creationTimestamp" {
				all = append(all, yaml.MapItem{Key: key, Value: ordered(value)})
			}
		}
		slices.SortFunc(all, func(a, b yaml.MapItem) int {
			i, j := place(a.Key.(string)), place(b.Key.(string))
			if i != j {
				return i - j
			}
			return strings.Compare(a.Key.(string), b.Key.(string))
		})
		return all
	case []any:
		for i := range v {
			v[i] = ordered(v[i])
		}
	}
	return v
}

func place(key string) int {
	if i := slices.Index(order, key); i >= 0 {
		return i
	}
	return len(order)
}
