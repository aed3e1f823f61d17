package main

import (
	_ "embed"
	"os"
	"text/template"
)

// archive is a packed program. Program is its name in the archive.
type archive struct{ OS, Arch, Name, Digest, Program string }

//go:embed krew.yaml.tmpl
var krewText string

var krew = template.Must(template.New("krew.yaml.tmpl").Parse(krewText))

// writeKrew writes the manifest with which "kubectl krew" installs the program.
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
