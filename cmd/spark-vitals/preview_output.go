package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/rogpeppe/go-internal/diff"
	operation "gomodules.xyz/jsonpatch/v2"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

var previewOutputs = map[string]func(io.Writer, []previewed) error{
	"diff":  printDiffs,
	"yaml":  printYAML,
	"json":  printJSON,
	"patch": printPatches,
}

func printDiffs(out io.Writer, all []previewed) error {
	texts := make([]bytes.Buffer, len(all))
	tasks := new(errgroup.Group)
	tasks.SetLimit(runtime.GOMAXPROCS(0))
	for i := range all {
		tasks.Go(func() error {
			if err := all[i].printDiff(&texts[i]); err != nil {
				return fmt.Errorf("%s: %w", all[i].source, err)
			}
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		return err
	}
	for i := range texts {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if _, err := texts[i].WriteTo(out); err != nil {
			return err
		}
	}
	if len(all) > 1 {
		printTotals(out, all)
	}
	return nil
}

// printTotals prints how many objects there are, and how often each warning occurs.
func printTotals(out io.Writer, all []previewed) {
	type total struct{ objects, change, warned int }
	totals, warnings := map[string]*total{}, map[string]int{}
	for i := range all {
		each := &all[i]
		of := "others"
		switch {
		case each.why != "":
		case each.service != nil:
			of = "Services of drivers"
		default:
			of = each.pod.Labels[spark.RoleLabel] + "s"
		}
		if totals[of] == nil {
			totals[of] = &total{}
		}
		t := totals[of]
		t.objects++
		if len(each.Operations) > 0 {
			t.change++
		}
		said := each.warnings()
		if len(said) > 0 {
			t.warned++
		}
		for _, text := range said {
			warnings[text]++
		}
	}
	fmt.Fprintln(out, "\nIn total:")
	for _, of := range slices.Sorted(maps.Keys(totals)) {
		t := totals[of]
		fmt.Fprintf(out, "  %d %s: %d would be changed, %d have warnings\n", t.objects, of, t.change, t.warned)
	}
	texts := slices.SortedFunc(maps.Keys(warnings), func(a, b string) int {
		return cmp.Or(cmp.Compare(warnings[b], warnings[a]), cmp.Compare(a, b))
	})
	for _, text := range texts[:min(len(texts), maxListed)] {
		fmt.Fprintf(out, "  %s: warning: %s\n", times(warnings[text]), text)
	}
	if more := len(texts) - maxListed; more > 0 {
		fmt.Fprintf(out, "  and %d more warnings\n", more)
	}
}

// maxListed is how many warnings, or objects of a kind, are listed at the end.
const maxListed = 20

func (p *previewed) warnings() (all []string) {
	if p.doubt != "" {
		all = append(all, p.doubt)
	}
	for _, unknown := range p.unknown {
		all = append(all, unknown.Error())
	}
	for _, w := range p.Warnings {
		all = append(all, w.String())
	}
	return all
}

// printSkipped prints the objects that were skipped, by kind and reason.
func printSkipped(out io.Writer, all []skipped) {
	type kind struct{ kind, why string }
	names, order := map[kind][]string{}, []kind(nil)
	for _, p := range all {
		k := kind{p.kind, p.why}
		if names[k] == nil {
			order = append(order, k)
		}
		names[k] = append(names[k], fmt.Sprintf("%s (%s)", p.name, p.source))
	}
	for _, k := range order {
		more := ""
		if n := len(names[k]) - maxListed; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(out, "skipped: %s %s%s: %s\n", k.kind, strings.Join(names[k][:min(len(names[k]), maxListed)], ", "), more, k.why)
	}
}

func (p *previewed) printDiff(out io.Writer) error {
	fmt.Fprintf(out, "%s (%s)\n", p.title(), p.source)
	fmt.Fprintf(out, "  %s\n", p.summary())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range p.Set {
		fmt.Fprintf(table, "  set\t%s\t%s\n", r.Field, r.Why)
	}
	for _, r := range p.Left {
		fmt.Fprintf(table, "  left\t%s\t%s\n", r.Field, r.Why)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, text := range p.warnings() {
		fmt.Fprintf(out, "  warning: %s\n", text)
	}
	for _, text := range p.hints {
		fmt.Fprintf(out, "  note: %s\n", text)
	}
	before, err := toYAML(p.json)
	if err != nil {
		return err
	}
	after, err := toYAML(p.after)
	if err != nil {
		return err
	}
	_, hunks, _ := bytes.Cut(diff.Diff("as it is", before, "as it would be", after), []byte("\n"))
	_, err = out.Write(hunks)
	return err
}

func (p *previewed) title() string {
	if p.service != nil {
		return "Service " + qualified(p.service.Namespace, p.service.Name)
	}
	name := p.pod.Name
	if name == "" && p.pod.GenerateName != "" {
		name = p.pod.GenerateName + "*"
	}
	title := "Pod " + qualified(p.pod.Namespace, name)
	if p.holder != "" {
		title = "Pod template of " + p.holder
	}
	if p.why == "" {
		title += ", " + p.pod.Labels[spark.RoleLabel]
	}
	if version := p.pod.Labels[spark.VersionLabel]; version != "" {
		title += " of Spark " + version
	}
	return title
}

func qualified(namespace, name string) string {
	if name == "" {
		name = "without a name"
	}
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func (p *previewed) summary() string {
	switch {
	case p.why != "":
		return "nothing is done: " + p.why
	case p.Mode == policy.Disabled:
		return "nothing is done: the annotation spark-vitals.io/inject is disabled"
	case p.Rule == "":
		return "no rule matches"
	case p.Mode == policy.Audit:
		return "rule " + p.Rule + ", in audit: only stamps are written"
	case len(p.Operations) == 0:
		return "rule " + p.Rule + ": nothing is left to do"
	}
	return "rule " + p.Rule
}

func printYAML(out io.Writer, all []previewed) error {
	for i, each := range all {
		if i > 0 {
			fmt.Fprintln(out, "---")
		}
		text, err := toYAML(each.after)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints one object as itself and several as a List, as kubectl does.
func printJSON(out io.Writer, all []previewed) error {
	items := make([]json.RawMessage, len(all))
	for i, each := range all {
		items[i] = each.after
	}
	if len(items) == 1 {
		return writeJSON(out, items[0])
	}
	return writeJSON(out, map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// printPatches prints the patch of one object as itself. Of several it prints one a
// line, with its object.
func printPatches(out io.Writer, all []previewed) error {
	for _, each := range all {
		text, err := patchJSON(each.Operations)
		if err != nil {
			return err
		}
		if len(all) > 1 {
			if text, err = json.Marshal(each.named(text)); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

func (p *previewed) named(patch json.RawMessage) any {
	named := struct {
		Kind      string          `json:"kind"`
		Namespace string          `json:"namespace,omitempty"`
		Name      string          `json:"name,omitempty"`
		Source    string          `json:"source"`
		Patch     json.RawMessage `json:"patch"`
	}{Kind: "Service", Source: p.source, Patch: patch}
	if p.service != nil {
		named.Namespace, named.Name = p.service.Namespace, p.service.Name
	} else {
		named.Kind, named.Namespace, named.Name = "Pod", p.pod.Namespace, p.pod.Name
	}
	return named
}

func patchJSON(operations []operation.Operation) ([]byte, error) {
	if operations == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(operations)
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
