package main

import (
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// UTF-8 and UTF-16 with a byte order mark are read; other encodings are an error
// that names the place and the remedy.
func TestDecoded(t *testing.T) {
	const text = "kind: Pod\r\nmetadata: {annotations: {owner: Zo\u00eb}}\n"
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	big, err := unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{text, "\ufeff" + text, utf16, big} {
		if got, err := decoded([]byte(data)); err != nil || string(got) != text {
			t.Errorf("%q: %q, %v", data, got, err)
		}
	}
	latin1, err := charmap.ISO8859_1.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]string{latin1: "line 2: byte 0xeb is not UTF-8", utf16[2:]: "UTF-16"} {
		if _, err := decoded([]byte(data)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "iconv") {
			t.Errorf("%q: %v", data, err)
		}
	}
}
