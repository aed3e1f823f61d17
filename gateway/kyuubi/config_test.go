package kyuubi

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what is said anew")

// testdata/config-*.txtar: why, a configuration, and what is said of it; nothing
// where it is good.
func TestConfig(t *testing.T) {
	files, _ := filepath.Glob("testdata/config-*.txtar")
	if len(files) == 0 {
		t.Fatal("no test data")
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil || len(archive.Files)%2 != 0 {
			t.Fatal(file, err)
		}
		for i := 0; i < len(archive.Files); i += 2 {
			config, want := archive.Files[i], archive.Files[i+1]
			said := ""
			if _, err := ParseConfig(config.Data); err != nil {
				said = err.Error()
			}
			if strings.TrimSpace(string(want.Data)) != said {
				t.Errorf("%s, %s (go test -update writes it anew):\n%s\nwant\n%s", file, config.Name, said, want.Data)
				archive.Files[i+1].Data = []byte(said + "\n")
			}
		}
		if *update {
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(someConfig)
	f.Fuzz(func(_ *testing.T, source string) { _, _ = ParseConfig([]byte(source)) })
}
