package main

import (
	"context"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// buildImage builds the image alone into a folder, and writes the lists of what is
// linked in beside it.
func buildImage(ctx context.Context, version, folder string) error {
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "spark-vitals-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	built, err := buildAll(ctx, root, version, work, inImage)
	if err != nil {
		return err
	}
	for _, b := range built {
		if err := writeSBOM(b, version, fmt.Sprintf("%s-%s.cdx.json", folder, b.arch)); err != nil {
			return err
		}
	}
	digest, err := writeImage(built, version, folder)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s@%s\n", folder, digest)
	return nil
}

// writeImage writes programs as an OCI image layout into a folder.
func writeImage(built []binary, version, folder string) (digest v1.Hash, err error) {
	if err := os.RemoveAll(folder); err != nil {
		return digest, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range built {
		one, err := static(b.file, version, b.arch)
		if err != nil {
			return digest, fmt.Errorf("the image for %s: %w", b.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: b.os, Architecture: b.arch}}})
	}
	if _, err := layout.Write(folder, index); err != nil {
		return digest, fmt.Errorf("writing %s: %w", folder, err)
	}
	return index.Digest()
}

// static returns an image of one file.
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
