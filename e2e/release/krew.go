package main

import (
	_ "embed"
	"os"
	"text/template"
)

// archive is a packed program, whose name in it is Program.
type archive struct{ OS, Arch, Name, Digest, Program string }

//go:embed krew.yaml.tmpl
var krewText string

var krew = template.Must(template.New("krew.yaml.tmpl").Parse(krewText))

// writeKrew writes the manifest by which "kubectl krew" installs the program.
func writeKrew(version string, archives []archive, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := krew.Execute(out, map[string]any{"Home": home, "Version": version, "Archives": archives}); err != nil {
		return err
	}
	return out.Close()
}
