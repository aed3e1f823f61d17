package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// decoded returns the text in UTF-8. It recognizes UTF-16 by its byte order mark.
func decoded(data []byte) ([]byte, error) {
	text, _, err := transform.Bytes(unicode.BOMOverride(transform.Nop), data)
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return text, err
	case bytes.IndexByte(data, 0) >= 0:
		return nil, errors.New("this is not UTF-8 text: it has zero bytes, as UTF-16 has; convert it, for example with: iconv -f UTF-16LE -t UTF-8")
	case utf8.Valid(data):
		return bytes.TrimPrefix(data, []byte("\ufeff")), nil
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, fmt.Errorf("line %d: byte 0x%x is not UTF-8; convert the file, for example with: iconv -f ISO-8859-1 -t UTF-8", line(data, i), data[i])
		}
		i += size
	}
	return data, nil
}

func line(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(offset, len(data))], []byte("\n"))
}

// jsonError returns an error with the place of the fault in JSON, and finds what
// people write who think of another language. The error is about the value that begins
// at start.
func jsonError(data []byte, start int, err error) error {
	var syntax *json.SyntaxError
	var value json.RawMessage
	if !errors.As(json.Unmarshal(data[start:], &value), &syntax) {
		return err
	}
	at := start + max(int(syntax.Offset)-1, 0)
	if at >= len(data) {
		return fmt.Errorf("line %d: %w", line(data, at), err)
	}
	before := bytes.TrimRight(data[:at], " \t\r\n")
	hint := ""
	switch c := data[at]; {
	case c == '/' || c == '#':
		hint = "; JSON has no comments; remove them"
	case (c == '}' || c == ']') && bytes.HasSuffix(before, []byte(",")):
		hint = "; JSON allows no comma before a closing bracket, so remove it"
	}
	return fmt.Errorf("line %d: %w%s", line(data, at), syntax, hint)
}
