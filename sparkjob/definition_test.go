package sparkjob_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// schema is the part of a CustomResourceDefinition's schema that is used.
type schema struct {
	Type       string            `json:"type"`
	Format     string            `json:"format"`
	MaxItems   int               `json:"maxItems"`
	MaxLength  int               `json:"maxLength"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Required   []string          `json:"required"`
}

// The API server drops the fields that the definition does not have, so it has each field
// of the types and no other, each of its type and bounded.
func TestDefinition(t *testing.T) {
	text, err := os.ReadFile("../charts/spark-vitals/files/sparkjobs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Group    string
			Names    struct{ Kind, Plural string }
			Versions []struct {
				Name                     string
				AdditionalPrinterColumns []struct{ JSONPath string }
				Schema                   struct{ OpenAPIV3Schema schema }
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	spec, version := definition.Spec, definition.Spec.Versions[0]
	if spec.Group != sparkjob.Resource.Group || spec.Names.Plural != sparkjob.Resource.Resource || spec.Names.Kind != sparkjob.Kind || version.Name != sparkjob.Resource.Version {
		t.Errorf("%+v", spec)
	}
	root := version.Schema.OpenAPIV3Schema.Properties["status"]
	agree(t, "status", root, reflect.TypeFor[sparkjob.Status]())
	for _, column := range version.AdditionalPrinterColumns {
		at := root
		for _, name := range strings.Split(strings.TrimPrefix(column.JSONPath, ".status."), ".") {
			name, ofList := strings.CutSuffix(name, "[0]")
			if at = at.Properties[name]; ofList && at.Items != nil {
				at = *at.Items
			}
		}
		if at.Type == "" || at.Type == "object" {
			t.Errorf("the column %s has no field", column.JSONPath)
		}
	}
}

// agree compares a schema with a type of Go.
func agree(t *testing.T, path string, s schema, of reflect.Type) {
	t.Helper()
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	want := schema{Type: map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Int64: "integer", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Struct: "object"}[of.Kind()]}
	if of == reflect.TypeFor[metav1.Time]() {
		want = schema{Type: "string", Format: "date-time"}
	}
	switch {
	case s.Type != want.Type || s.Format != want.Format:
		t.Errorf("%s is %s %s, want %s %s", path, s.Type, s.Format, want.Type, want.Format)
	case s.Type == "array":
		if s.MaxItems == 0 || s.Items == nil {
			t.Fatalf("%s has no bound or no items", path)
		}
		agree(t, path+"[]", *s.Items, of.Elem())
	case s.Type == "string" && s.Format == "" && s.MaxLength == 0:
		t.Errorf("%s has no bound", path)
	case s.Type == "object":
		agreeFields(t, path, s, of)
	}
}

func agreeFields(t *testing.T, path string, s schema, of reflect.Type) {
	t.Helper()
	known := map[string]bool{}
	for i := range of.NumField() {
		name, options, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		property, found := s.Properties[name]
		if known[name] = true; !found {
			t.Errorf("%s.%s is missing", path, name)
			continue
		}
		if optional := strings.Contains(options, "omit"); optional == slices.Contains(s.Required, name) {
			t.Errorf("%s.%s is required: %t", path, name, !optional)
		}
		agree(t, path+"."+name, property, of.Field(i).Type)
	}
	for name := range s.Properties {
		if !known[name] {
			t.Errorf("%s.%s is no field", path, name)
		}
	}
}
