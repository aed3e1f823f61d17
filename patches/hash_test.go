package patches

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A text that is no label's value costs nothing.
func TestHashIsBounded(t *testing.T) {
	if hash(strings.Repeat("a", 63)) == 0 || hash(strings.Repeat("a", 64)) != 0 {
		t.Error("the bound is not 63 letters")
	}
}

// Applications get different ports about as often as with ports at random: of 100 on
// 10,000 ports some 99.5 are different.
func TestHashSpreads(t *testing.T) {
	random := rapid.StringMatching("spark-[0-9a-f]{32}")
	for kind, name := range map[string]func(int) string{
		"Spark's": func(i int) string { return random.Example(i) },
		"counted": func(i int) string { return fmt.Sprintf("nightly-etl-%d", i) },
		"dated":   func(i int) string { return fmt.Sprintf("report-2026-%02d-%02d", i%12+1, i/12+1) },
	} {
		ports := map[int]bool{}
		for i := range 100 {
			ports[hash(name(i))%10000] = true
		}
		if len(ports) < 97 {
			t.Errorf("%s ids: 100 applications have %d ports", kind, len(ports))
		}
	}
}
