package docs

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/golden"
)

// architecture.md names each package in its table, and its figure is drawn from what
// the packages import. It stays a test because nothing else notices a new package.
func TestRooms(t *testing.T) {
	text := read(t, "architecture.md")
	pure := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z/-]+)` \\|.*\\| (yes)? *\\|$").FindAllStringSubmatch(text, -1) {
		pure[row[1]] = row[2] == "yes"
	}
	rooms := imports(t)
	for room := range rooms {
		if _, found := pure[room]; !found {
			t.Errorf("architecture.md does not name the room %s", room)
		}
	}
	golden.HoldsBetween(t, "architecture.md", "rooms", "```mermaid\n"+figure(rooms, pure)+"```\n")
}

// imports of our packages by each of them, without what serves tests alone.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	const module = "github.com/spark-vitals/spark-vitals/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var ours []string
		for _, path := range strings.Fields(line) {
			if room, found := strings.CutPrefix(path, module); found && !strings.HasPrefix(room, "internal/") && !strings.HasPrefix(room, "docs") {
				ours = append(ours, room)
			}
		}
		if strings.HasPrefix(line, module) && len(ours) > 0 && strings.HasPrefix(line, module+ours[0]) {
			rooms[ours[0]] = ours[1:]
		}
	}
	return rooms
}

// figure in Mermaid's words. An arrow that others already lead along is left out.
func figure(rooms map[string][]string, pure map[string]bool) string {
	var leads func(from, to string) bool
	leads = func(from, to string) bool {
		return slices.ContainsFunc(rooms[from], func(next string) bool { return next == to || leads(next, to) })
	}
	var nodes, arrows []string
	for room, imported := range rooms {
		node := fmt.Sprintf("  %s[%s]\n", id(room), room)
		if pure[room] {
			node = fmt.Sprintf("  %s([%s]):::pure\n", id(room), room)
		}
		nodes = append(nodes, node)
		for _, to := range imported {
			if !slices.ContainsFunc(imported, func(between string) bool { return leads(between, to) }) {
				arrows = append(arrows, fmt.Sprintf("  %s --> %s\n", id(room), id(to)))
			}
		}
	}
	slices.Sort(nodes)
	slices.Sort(arrows)
	return "flowchart TD\n" + strings.Join(nodes, "") + strings.Join(arrows, "") + "  classDef pure stroke-dasharray: 4\n"
}

func id(room string) string { return strings.NewReplacer("/", "_", "-", "_").Replace(room) }
