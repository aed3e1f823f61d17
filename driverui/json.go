package driverui

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
)

// each reads an array, one element at a time.
func each(d *jsontext.Decoder, element func() error) error {
	return within(d, '[', element)
}

// fields reads an object, one field at a time. field reads the value or skips it.
func fields(d *jsontext.Decoder, field func(name string) error) error {
	return within(d, '{', func() error {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		return field(bounded.Cut(name.String(), maxText))
	})
}

func within(d *jsontext.Decoder, begin jsontext.Kind, part func() error) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != begin {
		return fmt.Errorf("%s instead of %s at byte %d", token.Kind(), begin, d.InputOffset())
	}
	for d.PeekKind() != jsontext.KindInvalid {
		if end := d.PeekKind(); end == ']' || end == '}' {
			_, err := d.ReadToken()
			return err
		}
		if err := part(); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil { // the error comes with the token
		return err
	}
	return errors.New("it is not JSON")
}

// value reads a value into a variable. A value of another type leaves it as it is,
// because a later version of Spark may write another one.
func value(d *jsontext.Decoder, into any) error {
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	_ = json.Unmarshal(raw, into)
	return nil
}
