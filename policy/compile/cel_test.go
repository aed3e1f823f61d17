package compile

import "testing"

// A script is raw in CEL, but not with a carriage return, which CEL would make a newline.
func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"a\n'b'":     "r\"\"\"a\n'b'\"\"\"",
		"a\r\n'b'\n": `'a\r\n\'b\'\n'`,
		"\"\"\"\n":   `'"""\n'`,
	} {
		if got := text(s); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}
