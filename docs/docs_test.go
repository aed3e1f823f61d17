package docs

import (
	"os"
	"strings"
	"testing"
)

// The examples stand in the text as they are run.
func TestExamplesInText(t *testing.T) {
	text, err := os.ReadFile("annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	for language, file := range map[string]string{"go": "examples/forget/main.go", "python": "examples/forget.py"} {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "```"+language+"\n"+string(code)+"```\n") {
			t.Errorf("annotations.md does not hold %s as it stands", file)
		}
	}
}
