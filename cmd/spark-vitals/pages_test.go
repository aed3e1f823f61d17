package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// Whatever command of ours a page names is there, with its flags; and
// docs/commands.md has all of them.
func TestCommandsOfPages(t *testing.T) {
	all, err := pages.All()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, page := range all {
		for _, c := range page.Commands {
			args, ours := argsOf(c.Words)
			if !ours {
				continue
			}
			command, err := parse(args, c.InText)
			if err != nil {
				t.Errorf("%s: %s: %v", page.Path, c, err)
				continue
			}
			if page.Path == "docs/commands.md" {
				named[command.CommandPath()] = true
			}
		}
	}
	walk(rootCommand(), func(c *cobra.Command) {
		if c.Runnable() && !named[c.CommandPath()] {
			t.Errorf("docs/commands.md does not name %q", c.CommandPath())
		}
	})
}

// argsOf a command of ours, by any of its names.
func argsOf(words []string) (args []string, ours bool) {
	for _, name := range []string{"spark-vitals", "bin/spark-vitals", "kubectl spark-vitals", "kubectl-spark_vitals"} {
		if rest, found := strings.CutPrefix(strings.Join(words, " "), name+" "); found {
			return strings.Fields(rest), true
		}
	}
	return nil, false
}

func parse(args []string, beginning bool) (*cobra.Command, error) {
	command, rest, err := rootCommand().Find(args)
	if err != nil {
		return nil, err
	}
	if err := command.ParseFlags(rest); err != nil || beginning {
		return command, err
	}
	return command, command.ValidateArgs(command.Flags().Args())
}

func walk(c *cobra.Command, see func(*cobra.Command)) {
	see(c)
	for _, sub := range c.Commands() {
		walk(sub, see)
	}
}
