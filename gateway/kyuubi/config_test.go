package kyuubi

import (
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/golden"
)

// testdata/config-*.txtar: why, a configuration, and what is said of it; nothing
// where it is good.
func TestConfig(t *testing.T) {
	for _, file := range golden.Files(t, "testdata/config-*.txtar") {
		for i := 0; i+1 < len(file.Files); i += 2 {
			says := ""
			if _, err := ParseConfig(file.Files[i].Data); err != nil {
				says = err.Error() + "\n"
			}
			file.CheckAt(t, i+1, says)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(someConfig)
	f.Fuzz(func(_ *testing.T, source string) { _, _ = ParseConfig([]byte(source)) })
}
