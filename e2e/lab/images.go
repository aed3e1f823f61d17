package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// sparkImage imports a Spark image to the node, and returns the home of the same Spark
// on this machine.
func (l *Lab) sparkImage(ctx context.Context, version string, variant image.Variant) (home string, err error) {
	l.images.Lock()
	defer l.images.Unlock()
	if l.own == nil {
		return l.Store.PySpark(ctx, version)
	}
	built, err := l.Store.Spark(ctx, version, variant)
	if err != nil {
		return "", err
	}
	if err := l.Import(ctx, built); err != nil {
		return "", err
	}
	return l.Store.PySpark(ctx, version)
}

// SparkImages imports Spark images of all versions to the node.
func (l *Lab) SparkImages(ctx context.Context) error {
	for _, version := range Versions {
		if _, err := l.sparkImage(ctx, version, image.Plain); err != nil {
			return err
		}
	}
	return nil
}

// Import imports an image to the node if it is missing or has changed.
func (l *Lab) Import(ctx context.Context, i image.Image) error {
	id, err := i.ID()
	if err != nil {
		return err
	}
	mark := filepath.Join(l.own.ImageRoot(), strings.NewReplacer("/", "_", ":", "_").Replace(i.Name)+".imported")
	if there, err := os.ReadFile(mark); err == nil && string(there) == id {
		return nil
	}
	fmt.Fprintf(l.Store.Progress, "  image %s\n", i.Name)
	dir, err := os.MkdirTemp(l.Store.Dir, "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "image.tar")
	if err := i.Write(archive); err != nil {
		return err
	}
	if err := l.own.Import(ctx, archive); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(id), 0o600)
}

// Archives writes all images of the stories to a folder, for the nodes of another
// cluster ("kind load image-archive", "ctr images import").
func Archives(ctx context.Context, folder string, progress io.Writer) error {
	l, _, err := newLab(progress)
	if err != nil {
		return err
	}
	pause, err := cluster.Build(ctx, "e2e/pause", "pause", progress)
	if err != nil {
		return err
	}
	sandbox, err := l.Store.Static(cluster.PauseImage, pause)
	if err != nil {
		return err
	}
	all := []image.Image{sandbox}
	for _, version := range Versions {
		for _, variant := range []image.Variant{image.Plain, image.NoBash, image.JavaOptions} {
			built, err := l.Store.Spark(ctx, version, variant)
			if err != nil {
				return err
			}
			all = append(all, built)
		}
	}
	ours, err := l.ownImage(ctx, "development")
	if err != nil {
		return err
	}
	for _, i := range append(all, ours) {
		file := filepath.Join(folder, strings.NewReplacer("/", "_", ":", "_").Replace(i.Name)+".tar")
		if err := i.Write(file); err != nil {
			return err
		}
		fmt.Fprintln(progress, file)
	}
	return nil
}
