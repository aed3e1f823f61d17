package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

var reportOutputs = outputs(printReport)

// outputs are the forms of a report of which the table is given.
func outputs[T any](table func(io.Writer, *T) error) map[string]func(io.Writer, *T) error {
	return map[string]func(io.Writer, *T) error{
		"table": table,
		"json":  func(out io.Writer, found *T) error { return writeJSON(out, found) },
		"yaml": func(out io.Writer, found *T) error {
			text, err := yaml.Marshal(found)
			if err == nil {
				_, err = out.Write(text)
			}
			return err
		},
	}
}

// maxPrinted is how many drivers a table has, because no one reads more.
const maxPrinted = 100

// printReport prints a row for each kind of death of each driver, and what to do
// below, and at the end how many there are.
func printReport(out io.Writer, found *findings) error {
	for i, r := range found.Items[:min(len(found.Items), maxPrinted)] {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := printReported(out, r); err != nil {
			return err
		}
	}
	if more := len(found.Items) - maxPrinted; more > 0 {
		fmt.Fprintf(out, "\n%d more are left out; -o json lists all.\n", more)
	}
	if len(found.Items) == 0 {
		fmt.Fprintln(out, found.nothing())
	}
	return nil
}

// nothing returns the text for a report without a death: nothing died, or there was
// nothing to die.
func (f *findings) nothing() string {
	gone := ""
	if f.Events {
		gone = ", and the recorder's Events show no other deaths"
	}
	if f.Drivers+f.Executors == 0 {
		return "No Spark pod was found: no pod has the label " + spark.RoleLabel + gone + "."
	}
	return fmt.Sprintf("Nothing died.\nLooked at %s and %s%s.", counted(f.Drivers, "driver"), counted(f.Executors, "executor"), gone)
}

func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// origin returns how the deaths are known, if not by the driver's record.
func (r reported) origin() string {
	switch {
	case r.Source == fromEvents:
		return "known from Events; the pods are gone"
	case r.Source == fromStatuses && r.Absent:
		return "worked out from the pods' statuses; the driver's pod was not found"
	case r.Source == fromStatuses:
		return "worked out from the pods' statuses; this driver has no record"
	}
	return ""
}

func (r reported) title() string {
	name := r.Driver
	if name == "" {
		name = "application " + r.Application
	}
	title := qualified(r.Namespace, name)
	if r.Version != "" {
		title += ", Spark " + r.Version
	}
	if r.State != "" {
		title += ", "
	}
	return title
}

func printReported(out io.Writer, r reported) error {
	fmt.Fprintln(out, bounded.Printable(r.title())+red(out, bounded.Printable(r.State)))
	if text := r.origin(); text != "" {
		fmt.Fprintf(out, "  (%s)\n", text)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, d := range r.Record.Deaths {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", bounded.Printable(who(d)), bounded.Printable(string(d.Cause)), times(d.Count), lastOf(&r.Record, d))
	}
	for _, e := range r.Events[:min(len(r.Events), maxEvents)] {
		fmt.Fprintf(table, "  %s\t%s\t%s\tlast %s\n", bounded.Printable(e.Pod), bounded.Printable(e.Reason), times(e.Count), e.At.UTC().Format(time.RFC3339))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more := len(r.Events) - maxEvents; more > 0 {
		fmt.Fprintf(out, "  and %d more Events\n", more)
	}
	for _, text := range []string{r.stalled(), r.Unreadable, r.Message, r.before()} {
		if text != "" {
			fmt.Fprintln(out, " ", bounded.Printable(text))
		}
	}
	return nil
}

// before returns how the driver before this one ended, or "" if none is known.
func (r reported) before() string {
	p := r.Previous
	if p == nil {
		return ""
	}
	return fmt.Sprintf("The driver before it ended %s (%s, %s): %s", p.At.UTC().Format(time.RFC3339), p.State, p.Reason, p.Message)
}

// stalled returns the text of the mark, or "" without one.
func (r reported) stalled() string {
	if r.Stalled == nil {
		return ""
	}
	is := "stalled"
	switch heap := r.Stalled.IsOfHeap(); {
	case heap && r.Ended:
		is = "its heap was exhausted before it ended"
	case heap:
		is = "exhausted heap"
	case r.Ended:
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

// lastOf returns the last death of a kind, or "" if its detail is no longer kept.
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

// red returns the text in red on a terminal.
func red(out io.Writer, text string) string {
	if file, ok := out.(*os.File); ok && text != "" && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" {
		return "\x1b[31m" + text + "\x1b[0m"
	}
	return text
}
