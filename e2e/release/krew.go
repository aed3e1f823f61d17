package main

import (
	_ "embed"
	"os"
	"text/template"
)

// archive is a packed program.
type archive struct {
	platform
	program string // its name in the archive
	digested
}

func (a archive) OS() string      { return a.os }
func (a archive) Arch() string    { return a.arch }
func (a archive) Name() string    { return a.name }
func (a archive) Digest() string  { return a.digest }
func (a archive) Program() string { return a.program }

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
