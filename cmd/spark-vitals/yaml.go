package main

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v2"
)

// toYAML does what yaml.JSONToYAML of sigs.k8s.io does, byte for byte. That one reads
// JSON with a YAML parser, which took most of the time for a file of thousands of
// pods.
func toYAML(data []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	return yaml.Marshal(numbers(object))
}

// numbers returns numbers as they were written: whole ones have no exponent.
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
