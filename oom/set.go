package oom

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of numbers from 0 up, written as ranges: "1-20,25". The zero Set is
// empty.
type Set struct{ spans []span }

type span struct{ low, high int64 } // both included

// Has reports whether the number is in the set.
func (s *Set) Has(n int64) bool {
	i := s.after(n)
	return i > 0 && n <= s.spans[i-1].high
}

// after returns the index of the first span that begins after n.
func (s *Set) after(n int64) int {
	i, found := slices.BinarySearchFunc(s.spans, n, func(x span, n int64) int { return int(max(-1, min(1, x.low-n))) })
	if found {
		i++
	}
	return i
}

// Add adds a number.
func (s *Set) Add(n int64) {
	if s.Has(n) {
		return
	}
	i := s.after(n)
	s.spans = slices.Insert(s.spans, i, span{n, n})
	s.join(i)
	s.join(i - 1)
}

// join joins the span at i with the next one, if nothing is between them.
func (s *Set) join(i int) {
	if i >= 0 && i+1 < len(s.spans) && s.spans[i].high+1 == s.spans[i+1].low {
		s.spans[i].high = s.spans[i+1].high
		s.spans = slices.Delete(s.spans, i+1, i+2)
	}
}

// Remove removes a number.
func (s *Set) Remove(n int64) {
	if !s.Has(n) {
		return
	}
	i := s.after(n) - 1
	x := s.spans[i]
	var rest []span
	if x.low < n {
		rest = append(rest, span{x.low, n - 1})
	}
	if n < x.high {
		rest = append(rest, span{n + 1, x.high})
	}
	s.spans = slices.Replace(s.spans, i, i+1, rest...)
}

// closeGaps adds the numbers of the n lowest gaps to the set, so its text becomes
// shorter.
func (s *Set) closeGaps(n int) {
	s.spans[n].low = s.spans[0].low
	s.spans = s.spans[n:]
}

// IsZero reports whether the set is empty.
func (s Set) IsZero() bool { return len(s.spans) == 0 }

// MarshalText writes the ranges.
func (s Set) MarshalText() ([]byte, error) {
	var text []byte
	for i, x := range s.spans {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, x.low, 10)
		if x.high > x.low {
			text = strconv.AppendInt(append(text, '-'), x.high, 10)
		}
	}
	return text, nil
}

// UnmarshalText reads what MarshalText wrote, and refuses everything else.
func (s *Set) UnmarshalText(text []byte) error {
	s.spans = nil
	if len(text) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(string(text), ",") {
		low, high, isRange := strings.Cut(part, "-")
		x, err := parseSpan(low, high, isRange)
		if err != nil {
			return fmt.Errorf("%q is not a range of numbers: %w", part, err)
		}
		if last := len(s.spans) - 1; last >= 0 && x.low <= s.spans[last].high+1 {
			return fmt.Errorf("%q does not come after %d", part, s.spans[last].high)
		}
		s.spans = append(s.spans, x)
	}
	return nil
}

func parseSpan(low, high string, isRange bool) (x span, err error) {
	const bits = 48 // far from overflow
	l, err := strconv.ParseUint(low, 10, bits)
	if err != nil || !isRange {
		return span{int64(l), int64(l)}, err
	}
	h, err := strconv.ParseUint(high, 10, bits)
	if err == nil && h <= l {
		err = errors.New("it ends before it begins")
	}
	return span{int64(l), int64(h)}, err
}

// Sets are sets by name. A termination is in them by [Termination.Set] and
// [Termination.Number].
type Sets map[string]Set

func (s Sets) has(t *Termination) bool {
	set := s[t.Set]
	return set.Has(t.Number)
}

func (s Sets) add(t *Termination) {
	set := s[t.Set]
	set.Add(t.Number)
	s[t.Set] = set
}

func (s Sets) remove(t *Termination) {
	set := s[t.Set]
	if set.Remove(t.Number); set.IsZero() {
		delete(s, t.Set)
	} else {
		s[t.Set] = set
	}
}

func (s Sets) clone() Sets {
	copied := Sets{}
	for key, set := range s {
		copied[key] = Set{slices.Clone(set.spans)}
	}
	return copied
}

// longest returns the name of the set with the most ranges, or of equal ones the first
// by name. It returns "" if no set has two.
func (s Sets) longest() (name string) {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if len(s[key].spans) > max(1, len(s[name].spans)) {
			name = key
		}
	}
	return name
}
