package stall

import (
	"regexp"
	"strings"
	"time"
)

// line is a line of a log. One without a time continues the line before.
type line struct {
	at   time.Time
	text string
}

// How HotSpot begins and ends its answer to SIGQUIT. The end is the same for all of its
// collectors: what the classes use, and an empty line.
const dumpBegins = "Full thread dump "

var (
	dumpDate = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`) // the line before
	heapEnds = regexp.MustCompile(`^ (?:Metaspace| class space) +used \d+K, `)
)

// withoutDumps returns the lines that belong to no thread dump. One whose begin or end
// is missing is not recognized.
func withoutDumps(all []line) (kept []line) {
	begun, ending := -1, false // where a dump begins, and whether its last lines follow
	for _, l := range all {
		switch {
		case ending && heapEnds.MatchString(l.text):
			continue
		case ending && l.text == "":
			ending = false
			continue
		case strings.HasPrefix(l.text, dumpBegins):
			if begun = len(kept); begun > 0 && dumpDate.MatchString(kept[begun-1].text) {
				begun--
			}
		case begun >= 0 && heapEnds.MatchString(l.text):
			kept, begun, ending = kept[:begun], -1, true
			continue
		}
		kept, ending = append(kept, l), false
	}
	return kept
}

// endAsDump reports whether lines end as a thread dump does.
func endAsDump(lines []line) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		if text := lines[i].text; text != "" {
			return heapEnds.MatchString(text)
		}
	}
	return len(lines) > 0
}
