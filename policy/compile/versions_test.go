package compile

import (
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"pgregory.net/rapid"
)

// The intervals of a range hold the versions that the range holds.
func TestIntervals(t *testing.T) {
	part := rapid.Custom(func(t *rapid.T) string {
		operator := rapid.SampledFrom([]string{"", "=", "!=", ">", "<", ">=", "<=", "~", "^"}).Draw(t, "operator")
		return operator + rapid.SampledFrom([]string{"3", "3.5", "3.5.9", "4.x", "4.1.*", "4.1", "4.1.4", "0.2.3", "4.0.0-preview1", "*"}).Draw(t, "version")
	})
	rapid.Check(t, func(t *rapid.T) {
		between := rapid.SampledFrom([]string{" ", ", ", " || "}).Draw(t, "between")
		text := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), between)
		c, err := semver.NewConstraint(text)
		if err != nil {
			t.Skip()
		}
		v := semver.New(rapid.Uint64Range(0, 6).Draw(t, "major"), rapid.Uint64Range(0, 7).Draw(t, "minor"), rapid.Uint64Range(0, 11).Draw(t, "patch"), "", "")
		inside := false
		for _, i := range intervals(text) {
			inside = inside || !v.LessThan(i.from) && (i.to == nil || v.LessThan(i.to))
		}
		if inside != c.Check(v) {
			t.Fatalf("%s in %q: %v, and in the intervals %v", v, text, c.Check(v), inside)
		}
	})
}
