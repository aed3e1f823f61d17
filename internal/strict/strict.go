// Package strict decodes JSON so that every mistake in it is named by its place:
// "spec.containers[1].ports[0].containerPort: must be a whole number, not a text".
package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// Decode reads data into a value, with regard to the case of field names, as the API
// server does. unknown are fields that the value does not have, or that are there
// twice; they are left out. err says that a field has the wrong type. Both name the
// field by its path below at, which may be nil.
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

// typeError names the place and what belongs there, in words for people who write YAML.
func typeError(data []byte, err error, at *field.Path) error {
	if errors.Is(err, resource.ErrFormatWrong) || errors.Is(err, resource.ErrNumeric) || errors.Is(err, resource.ErrSuffix) {
		return quantityError(data, err, at)
	}
	m := wrongType.FindStringSubmatch(err.Error())
	if m == nil && at == nil {
		return err
	}
	if m == nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	found, number, path, wanted := m[1], m[2], m[3], m[4]
	text := fmt.Sprintf("must be %s, not %s", expected(wanted), strings.TrimSpace(names[found]+" "+number))
	if wanted == "string" && found != "object" && found != "array" {
		text += "; put it in quotes"
	}
	where := at
	if path != "" {
		where = at.Child(locate(data, strings.Split(path, "."), found))
	}
	if where == nil {
		return errors.New("the whole of it " + text)
	}
	return fmt.Errorf("%s: %s", where, text)
}

var names = map[string]string{"string": "a text", "number": "a number", "bool": "true or false", "object": "a map", "array": "a list"}

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

// locate adds the indices to a path that has none: of the first value there that
// is of the kind found.
func locate(data []byte, path []string, found string) string {
	var value any
	if err := json.Unmarshal(data, &value); err == nil {
		if indexed, ok := walk(value, path, found); ok {
			return indexed
		}
	}
	return strings.Join(path, ".")
}

func walk(value any, path []string, found string) (string, bool) {
	if list, ok := value.([]any); ok && (len(path) > 0 || found != "array") {
		for i, element := range list {
			if rest, ok := walk(element, path, found); ok {
				return fmt.Sprintf("[%d]%s", i, prefixed(rest)), true
			}
		}
		return "", false
	}
	if len(path) == 0 {
		return "", kindOf(value) == found
	}
	object, ok := value.(map[string]any)
	if !ok {
		return "", false
	}
	rest, ok := walk(object[path[0]], path[1:], found)
	return path[0] + prefixed(rest), ok
}

func prefixed(rest string) string {
	if rest == "" || rest[0] == '[' {
		return rest
	}
	return "." + rest
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	case map[string]any:
		return "object"
	case []any:
		return "array"
	}
	return ""
}

// quantityError names the first field that should be a quantity and is none: the
// decoder does not say which one it was.
func quantityError(data []byte, err error, at *field.Path) error {
	var value any
	if json.Unmarshal(data, &value) == nil {
		if path, text := badQuantity(value, false); path != "" {
			return fmt.Errorf("%s: must be a quantity such as 500m or 4Gi, not %q", at.Child(path), text)
		}
	}
	if at == nil {
		return err
	}
	return fmt.Errorf("%s: %w", at, err)
}

// quantities are the fields that are one, or a map of them.
var quantities = []string{"limits", "requests", "sizeLimit", "divisor", "overhead", "capacity", "allocatedResources"}

func badQuantity(value any, is bool) (path, text string) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if rest, text := badQuantity(value[key], is || slices.Contains(quantities, key)); text != "" {
				return key + prefixed(rest), text
			}
		}
	case []any:
		for i, element := range value {
			if rest, text := badQuantity(element, is); text != "" {
				return fmt.Sprintf("[%d]%s", i, prefixed(rest)), text
			}
		}
	case string:
		if _, err := resource.ParseQuantity(value); is && err != nil {
			return "", value
		}
	}
	return "", ""
}
