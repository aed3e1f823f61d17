package oom_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile("../docs/oom.schema.json")
})

// checkSchema validates an annotation against docs/oom.schema.json.
func checkSchema(t interface {
	Helper()
	Fatal(...any)
	Errorf(string, ...any)
}, text string) {
	t.Helper()
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`{"deaths":[{"role":"driver","cause":"OOM","count":1}]}`, `{"counted":{"executors":"1-"}}`} {
		value, _ := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if s.Validate(value) == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
