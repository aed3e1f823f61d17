package docs

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/golden"
)

// The picture of the front page is drawn from the session that e2e/pages records on a
// real API server, with a pane for each side. It is drawn here because a screenshot
// cannot be compared with the session, and vhs needs a browser.
func TestSessionPicture(t *testing.T) {
	const session = "figures/session.txt"
	golden.Holds(t, "figures/session.svg", drawn(read(t, session)))
}

// Sizes in pixels, for letters of 0.6 of their height, as in all usual fonts of
// one width.
const (
	columns    = 96
	wide       = 8
	high       = 19
	margin     = 20
	bar        = 30
	width      = columns*wide + 2*margin
	titles     = "font-family:system-ui,sans-serif;font-size:13px;font-weight:600;fill:#e6edf3"
	typewriter = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:13px;white-space:pre"
)

// colours of parts of a line, the first that fits. They stand on a dark ground
// of their own, so they are read on a light page and on a dark one.
var colours = []struct {
	part   *regexp.Regexp
	colour string
}{
	{regexp.MustCompile(`^\$ .*`), "#ffffff;font-weight:700"},
	{regexp.MustCompile(`^# .*`), "#9aa4af;font-style:italic"},
	{regexp.MustCompile(`\b(KILLED|OOMKilled|Hung|Error)\b`), "#ff7b72"},
	{regexp.MustCompile(`\bspark[-.][\w./-]+=\w+`), "#7ee787"},
}

const plainColour = "#d1d7de"

func drawn(session string) string {
	var panes strings.Builder
	y := 0
	for _, pane := range strings.Split(session, "== ")[1:] {
		title, text, _ := strings.Cut(pane, "\n")
		lines := wrapped(text)
		height := bar + len(lines)*high + margin
		fmt.Fprintf(&panes, `<rect y="%d" width="%d" height="%d" rx="8" fill="#161b22" stroke="#6e7681"/>`+"\n", y, width, height)
		fmt.Fprintf(&panes, `<text x="%d" y="%d" style="%s">%s</text>`+"\n", margin, y+bar-9, titles, title)
		for i, line := range lines {
			if line != "" {
				fmt.Fprintf(&panes, `<text x="%d" y="%d" style="%s">%s</text>`+"\n", margin, y+bar+(i+1)*high-4, typewriter, coloured(line))
			}
		}
		y += height + margin
	}
	height := y - margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 %d %d" width="%d" height="%d" role="img">
<title>The same two applications, without and with spark-vitals</title>
%s</svg>
`, width+2, height+2, width+2, height+2, &panes)
}

// wrapped lines, as long as a pane is wide; what goes on is indented as it began.
func wrapped(text string) (lines []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		for len(line) > columns {
			at := strings.LastIndex(line[:columns+1], " ")
			lines, line = append(lines, line[:at]), indent+line[at+1:]
		}
		if strings.HasPrefix(line, "$") && len(lines) > 0 && lines[len(lines)-1] != "" {
			lines = append(lines, "")
		}
		lines = append(lines, line)
	}
	return lines
}

func coloured(line string) string {
	for _, c := range colours {
		if at := c.part.FindStringIndex(line); at != nil {
			return coloured(line[:at[0]]) + span(line[at[0]:at[1]], c.colour) + coloured(line[at[1]:])
		}
	}
	if line == "" {
		return ""
	}
	return span(line, plainColour)
}

func span(text, colour string) string {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // into memory: cannot fail
	return fmt.Sprintf(`<tspan xml:space="preserve" style="fill:%s">%s</tspan>`, colour, &escaped)
}
