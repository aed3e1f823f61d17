package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var reportOutputs = map[string]func(io.Writer, []reported) error{
	"table": printReport,
	"json":  func(out io.Writer, all []reported) error { return writeJSON(out, reportItems(all)) },
	"yaml": func(out io.Writer, all []reported) error {
		text, err := yaml.Marshal(reportItems(all))
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	},
}

func reportItems(all []reported) map[string][]reported {
	if all == nil {
		all = []reported{}
	}
	return map[string][]reported{"items": all}
}

// printReport prints a row for each kind of death of each driver, and what to do
// below.
func printReport(out io.Writer, all []reported) error {
	if len(all) == 0 {
		fmt.Fprintln(out, "Nothing died.")
	}
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		title := qualified(r.Namespace, r.Driver)
		if r.Version != "" {
			title += ", Spark " + r.Version
		}
		if r.State != "" {
			title += ", "
		}
		fmt.Fprintln(out, printable(title)+red(out, printable(r.State)))
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, d := range r.Record.Deaths {
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", printable(who(d)), printable(string(d.Cause)), times(d.Count), lastOf(&r.Record, d))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if text := r.stalled(); text != "" {
			fmt.Fprintln(out, " ", printable(text))
		}
		if r.Unreadable != "" {
			fmt.Fprintln(out, " ", printable(r.Unreadable))
		}
		if r.Message != "" {
			fmt.Fprintln(out, " ", printable(r.Message))
		}
	}
	return nil
}

// stalled is what the mark says; "" without one.
func (r reported) stalled() string {
	if r.Stalled == nil {
		return ""
	}
	is := "stalled"
	if r.Ended {
		is = "was silent before it ended"
	}
	return fmt.Sprintf("%s (%s): %s", is, r.Stalled.Confidence, r.Stalled.Message)
}

func who(d oom.Deaths) string {
	who := string(d.Role)
	if d.Role == spark.Executor && d.Count > 1 {
		who += "s"
	}
	if d.Container != "" {
		who += ", container " + d.Container
	}
	return who
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// lastOf the deaths of a kind, "" where its detail is no longer kept.
func lastOf(r *oom.Record, d oom.Deaths) string {
	details := r.Details // the newest first
	if r.Driver != nil {
		details = append([]oom.Termination{*r.Driver}, details...)
	}
	for _, t := range details {
		if t.Role == d.Role && t.Container == d.Container && t.Cause == d.Cause {
			return "last " + t.At.UTC().Format(time.RFC3339)
		}
	}
	return ""
}

// red on a terminal.
func red(out io.Writer, text string) string {
	if file, ok := out.(*os.File); ok && text != "" && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" {
		return "\x1b[31m" + text + "\x1b[0m"
	}
	return text
}

// printable leaves nothing in a stranger's text that a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
