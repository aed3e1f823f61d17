// Package image builds container images without docker and without a registry,
// as archives that "ctr images import" takes.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is what to build: a name such as "e2e/spark:3.5.9", and layers as tar
// files, the lowest first.
type Image struct {
	Name   string
	Config v1.Config
	Layers []string
}

// ID shows whether an image has changed: by its name and configuration, and by
// the dates and sizes of its layers.
func (i Image) ID() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %+v", i.Name, i.Config)
	for _, file := range i.Layers {
		stat, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " %s %d %s", file, stat.Size(), stat.ModTime())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Write builds the image into an archive.
func (i Image) Write(path string) error {
	if err := i.write(path + ".part"); err != nil {
		return fmt.Errorf("building the image %s: %w", i.Name, err)
	}
	return os.Rename(path+".part", path)
}

func (i Image) write(path string) error {
	tag, err := name.NewTag(i.Name, name.WithDefaultRegistry("localhost"))
	if err != nil {
		return err
	}
	image := empty.Image
	for _, file := range i.Layers {
		layer, err := tarball.LayerFromFile(file, tarball.WithCompression(compression.None))
		if err != nil {
			return err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Config = "amd64", "linux", i.Config
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return tarball.WriteToFile(path, tag, image)
}
