package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/rogpeppe/go-internal/diff"
	operation "gomodules.xyz/jsonpatch/v2"
	"sigs.k8s.io/yaml"

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
	for i, each := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := each.printDiff(out); err != nil {
			return fmt.Errorf("%s: %w", each.source, err)
		}
	}
	return nil
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
	if p.doubt != "" {
		fmt.Fprintf(out, "  warning: %s\n", p.doubt)
	}
	for _, unknown := range p.unknown {
		fmt.Fprintf(out, "  warning: %s\n", unknown)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(out, "  warning: %s\n", w)
	}
	before, err := yaml.JSONToYAML(p.json)
	if err != nil {
		return err
	}
	after, err := yaml.JSONToYAML(p.after)
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
		return "nothing is done: the annotation spark-vitals.io/inject says disabled"
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
		text, err := yaml.JSONToYAML(each.after)
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

// printPatches prints the patch of each object as one line.
func printPatches(out io.Writer, all []previewed) error {
	for _, each := range all {
		text, err := patchJSON(each.Operations)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
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
