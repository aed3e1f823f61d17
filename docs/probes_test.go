package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/policy"
)

// The exception for security tools matches the injected command, and the NetworkPolicy
// allows the injected ports.
func TestExceptionsToWrite(t *testing.T) {
	page := read(t, "probes.md")
	command := strings.Join(policy.Default().Rules()[0].Probes.Liveness.Exec.Command, " ")
	words := regexp.MustCompile(`proc\.cmdline contains "(.*)"`).FindAllStringSubmatch(page, -1)
	if len(words) == 0 {
		t.Error("there is no exception")
	}
	for _, word := range words {
		if !strings.Contains(command, word[1]) {
			t.Errorf("the exception names %q, which the command does not have", word[1])
		}
	}
	ranges := 0
	for _, rule := range policy.Default().Rules() {
		if ports := rule.BlockManagerPort; ports != nil {
			ranges++
			if want := fmt.Sprintf("port: %d, endPort: %d}", ports.From, ports.To); !strings.Contains(page, want) {
				t.Errorf("the NetworkPolicy does not allow %q", want)
			}
		}
	}
	if ranges == 0 {
		t.Error("no rule has a range of ports")
	}
}
