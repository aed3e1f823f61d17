package main

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v2"
)

// toYAML is yaml.JSONToYAML of sigs.k8s.io, byte for byte, which reads JSON by a
// parser of YAML: for a file of thousands of pods that took most of the time.
func toYAML(data []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	return yaml.Marshal(numbers(object))
}

// numbers are written as they were: whole ones have no exponent.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}
