// Command bench measures spark-vitals and writes the figures into docs/performance.md,
// between the markers of each benchmark. Everything that is compared runs interleaved
// in one run, because figures of two runs are not comparable.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// benchmarks by the names of their markers: <!-- webhook --> and <!-- /webhook -->.
var benchmarks = []struct {
	name string
	run  func(context.Context, *document) error
}{
	{"webhook", benchWebhook},
	{"recorder", benchRecorder},
	{"jobs", benchJobs},
	{"guards", benchGuards},
	{"remedy", benchRemedy},
}

func main() {
	flag.Parse()
	ctrllog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the named benchmarks, or all.
func run(ctx context.Context, names []string) error {
	for _, b := range benchmarks {
		if len(names) > 0 && !strings.Contains(strings.Join(names, " "), b.name) {
			continue
		}
		var d document
		if err := b.run(ctx, &d); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := d.writeInto("docs/performance.md", b.name); err != nil {
			return err
		}
	}
	return nil
}

// document is the result of a benchmark, in Markdown.
type document struct{ strings.Builder }

func (d *document) say(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// heading returns when and where it was measured.
func (d *document) heading() error {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	d.say("Written by `make bench` on %s, %s, %d cores, load average %s at the start.",
		time.Now().Format("2006-01-02"), runtime.Version(), runtime.NumCPU(), strings.Fields(string(load))[0])
	return nil
}

// table writes a table with a row of headings.
func (d *document) table(headings ...string) {
	d.say("\n| %s |\n|%s", strings.Join(headings, " | "), strings.Repeat("---|", len(headings)))
}

func (d *document) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = fmt.Sprint(cell)
	}
	d.say("| %s |", strings.Join(texts, " | "))
}

// writeInto replaces the text between the markers in a file of the project.
func (d *document) writeInto(file, name string) error {
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	file = filepath.Join(root, file)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	open, closing := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(text), open)
	_, after, closed := strings.Cut(rest, closing)
	if !ok || !closed {
		return errors.New(file + " has no markers " + name)
	}
	return os.WriteFile(file, []byte(before+open+strings.TrimSpace(d.String())+"\n"+closing+after), 0o644)
}
