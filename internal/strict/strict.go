// Package strict decodes JSON and names every mistake in it by its path:
// "spec.containers[1].ports[0].containerPort: must be a whole number, not a text".
package strict

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// Decode reads data into a value. It respects the case of field names, as the API
// server does. unknown are fields that the value does not have, or that occur twice;
// they are left out. err means that a field has the wrong type. Both name the field by
// its path below at, which may be nil.
func Decode(data []byte, into any, at *field.Path) (unknown []error, err error) {
	problems, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return nil, typeError(data, err, at)
	}
	for _, problem := range problems {
		var named kjson.FieldError
		if errors.As(problem, &named) {
			text := strings.Trim(strings.TrimSuffix(problem.Error(), fmt.Sprintf("%q", named.FieldPath())), " ")
			problem = fmt.Errorf("%s: %s", at.Child(named.FieldPath()), text)
		}
		unknown = append(unknown, problem)
	}
	return unknown, nil
}

var wrongType = regexp.MustCompile(`cannot unmarshal (\w+)(?: (\S+))? into Go (?:struct field [^.]+\.(\S+)|value) of type (\S+)`)

// typeError names the path and what belongs there, in words for people who write YAML.
// The decoder's own error names Go's types, and no index: of five containers it does
// not say which one is wrong.
func typeError(data []byte, err error, at *field.Path) error {
	path, text := "", ""
	if errors.Is(err, resource.ErrFormatWrong) || errors.Is(err, resource.ErrNumeric) || errors.Is(err, resource.ErrSuffix) {
		path, text = quantityError(data)
	} else if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
		found, number, wanted := m[1], m[2], m[4]
		text = fmt.Sprintf("must be %s, not %s", expected(wanted), strings.TrimSpace(kinds[found].name+" "+number))
		if wanted == "string" && found != "object" && found != "array" {
			text += "; put it in quotes"
		}
		if m[3] != "" {
			path = locate(data, m[3], kinds[found].kind)
		}
	}
	if path != "" {
		at = at.Child(path)
	}
	switch {
	case text == "" && at == nil:
		return err
	case text == "":
		return fmt.Errorf("%s: %w", at, err)
	case at == nil:
		return errors.New("the whole of it " + text)
	}
	return fmt.Errorf("%s: %s", at, text)
}

// kinds are the kinds of JSON values, by the decoder's names.
var kinds = map[string]struct {
	name string
	kind reflect.Kind
}{
	"string": {"a text", reflect.String}, "number": {"a number", reflect.Float64}, "bool": {"true or false", reflect.Bool},
	"object": {"a map", reflect.Map}, "array": {"a list", reflect.Slice},
}

func expected(goType string) string {
	switch {
	case goType == "int32":
		return "a whole number of at most 2147483647"
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case goType == "string":
		return "a text"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a map"
}

// locate adds the indices to a path that has none, for the first value there of the
// kind.
func locate(data []byte, path string, kind reflect.Kind) string {
	indexed, _ := find(data, func(keys []string, value any) bool {
		return strings.Join(keys, ".") == path && reflect.ValueOf(value).Kind() == kind
	})
	return cmp.Or(indexed, path)
}

// quantities are the fields that are a quantity, or a map of quantities.
var quantities = []string{"limits", "requests", "sizeLimit", "divisor", "overhead", "capacity", "allocatedResources"}

// quantityError finds the first field that should be a quantity and is not: the
// decoder does not name it.
func quantityError(data []byte) (path, text string) {
	path, value := find(data, func(keys []string, value any) bool {
		text, ok := value.(string)
		if !ok || !slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(quantities, key) }) {
			return false
		}
		_, err := resource.ParseQuantity(text)
		return err != nil
	})
	if path == "" {
		return "", ""
	}
	return path, fmt.Sprintf("must be a quantity such as 500m or 4Gi, not %q", value)
}

// find returns the first value in a JSON that matches, and its path. keys is the path
// without indices.
func find(data []byte, matches func(keys []string, value any) bool) (path string, value any) {
	var walk func(path string, keys []string, value any) (string, any)
	walk = func(path string, keys []string, value any) (string, any) {
		if matches(keys, value) {
			return path, value
		}
		switch value := value.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(value)) {
				if path, found := walk(strings.TrimPrefix(path+"."+key, "."), append(keys, key), value[key]); found != nil {
					return path, found
				}
			}
		case []any:
			for i, element := range value {
				if path, found := walk(fmt.Sprintf("%s[%d]", path, i), keys, element); found != nil {
					return path, found
				}
			}
		}
		return "", nil
	}
	if json.Unmarshal(data, &value) != nil {
		return "", nil
	}
	return walk("", nil, value)
}
