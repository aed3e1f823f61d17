// Command release builds the image that is shipped, without docker and without
// a registry: the same commit gives the same bytes.
//
//	release VERSION FOLDER
//
// FOLDER becomes an OCI image layout for linux/amd64 and linux/arm64, and beside
// it, for each, a list of what is linked in (CycloneDX).
package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: release VERSION FOLDER")
		os.Exit(1)
	}
	if err := release(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func release(ctx context.Context, version, folder string) error {
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "spark-vitals-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range []string{"amd64", "arm64"} {
		binary := filepath.Join(work, architecture, "spark-vitals")
		if err := build(ctx, root, version, architecture, binary); err != nil {
			return fmt.Errorf("building for %s: %w", architecture, err)
		}
		built, err := static(binary, version, architecture)
		if err != nil {
			return fmt.Errorf("the image for %s: %w", architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: built, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}}})
		if err := writeSBOM(binary, version, fmt.Sprintf("%s-%s.cdx.json", folder, architecture)); err != nil {
			return fmt.Errorf("listing what is linked into %s: %w", binary, err)
		}
	}
	if _, err := layout.Write(folder, index); err != nil {
		return fmt.Errorf("writing %s: %w", folder, err)
	}
	digest, err := index.Digest()
	fmt.Fprintf(os.Stdout, "%s@%s\n", folder, digest)
	return err
}

// build a binary that knows its version and commit, and nothing of this machine.
func build(ctx context.Context, root, version, architecture, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -X main.version="+version, "-o", binary, "./cmd/spark-vitals")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOAMD64=v1", "GOARM64=v8.0")
	return cmd.Run()
}

// static is an image of one file.
func static(binary, version, architecture string) (v1.Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	tar := binary + ".tar"
	if err := image.WriteFiles(tar, []image.File{{Path: "spark-vitals", Mode: 0o755, Data: program}}); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(tar, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	built, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{
		Entrypoint: []string{"/spark-vitals"}, User: "65532:65532",
		Labels: map[string]string{"org.opencontainers.image.title": "spark-vitals", "org.opencontainers.image.version": version, "org.opencontainers.image.licenses": "Apache-2.0"},
	}
	return mutate.ConfigFile(built, config)
}

// writeSBOM of a binary, from what the linker wrote into it.
func writeSBOM(binary, version, file string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	component := func(kind cyclonedx.ComponentType, name, version string) cyclonedx.Component {
		url := fmt.Sprintf("pkg:golang/%s@%s", name, version)
		return cyclonedx.Component{Type: kind, BOMRef: url, Name: name, Version: version, PackageURL: url}
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: new(component(cyclonedx.ComponentTypeApplication, info.Main.Path, version))}
	linked := []cyclonedx.Component{component(cyclonedx.ComponentTypeLibrary, "stdlib", info.GoVersion)}
	for _, module := range info.Deps {
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
