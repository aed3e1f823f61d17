package main

import (
	"bytes"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/captured"
)

// What is printed is what the library of Kubernetes prints.
func TestToYAML(t *testing.T) {
	texts := [][]byte{[]byte(`{"b":1.5,"a":[1,-2,9007199254740993,true,null,"x: y","1"],"c":{"on":"yes"}}`)}
	for _, review := range captured.Reviews() {
		texts = append(texts, review.Object())
	}
	for _, text := range texts {
		want, err := yaml.JSONToYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := toYAML(text); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v\n%s\nwant\n%s", err, got, want)
		}
	}
}
