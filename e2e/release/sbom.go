package main

import (
	"fmt"
	"os"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM lists what is linked into a program, from what Go wrote into it.
func writeSBOM(b binary, version, file string) error {
	component := func(kind cyclonedx.ComponentType, name, version string) cyclonedx.Component {
		url := fmt.Sprintf("pkg:golang/%s@%s", name, version)
		return cyclonedx.Component{Type: kind, BOMRef: url, Name: name, Version: version, PackageURL: url}
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: new(component(cyclonedx.ComponentTypeApplication, b.info.Main.Path, version))}
	linked := []cyclonedx.Component{component(cyclonedx.ComponentTypeLibrary, "stdlib", b.info.GoVersion)}
	for _, module := range b.info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		linked = append(linked, component(cyclonedx.ComponentTypeLibrary, module.Path, module.Version))
	}
	bom.Components = &linked
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
