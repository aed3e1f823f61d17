package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

const home = "https://github.com/spark-vitals/spark-vitals"

// digested is a file of a release and its SHA-256.
type digested struct{ name, digest string }

// release fills a folder with all files of a release.
func release(ctx context.Context, version, folder, registry string) error {
	parsed, err := semver.StrictNewVersion(version)
	if err != nil {
		return fmt.Errorf("VERSION is %q; it must be a semantic version without \"v\", such as 0.2.0", version)
	}
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	changed, err := changesOf(filepath.Join(root, "CHANGELOG.md"), parsed)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "spark-vitals-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	first, err := buildAll(ctx, root, version, work, platforms[:1])
	if err != nil {
		return err
	}
	from, err := commitOf(first[0].info) // before the minutes that the others take
	if err != nil {
		return err
	}
	others, err := buildAll(ctx, root, version, work, platforms[1:])
	if err != nil {
		return err
	}
	return write(root, version, folder, registry, append(first, others...), from, changed)
}

// write writes the files of a release. The last ones have the digests of the others.
func write(root, version, folder, registry string, built []binary, from commit, changed []change) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	archives, err := writePrograms(root, version, folder, built, from.date)
	if err != nil {
		return err
	}
	image, err := writeImage(ofImage(built), version, filepath.Join(folder, "image"))
	if err != nil {
		return err
	}
	if err := writeChart(version, folder, registry, from.date, changed); err != nil {
		return fmt.Errorf("packing the chart: %w", err)
	}
	if err := writeKrew(version, archives, filepath.Join(folder, "spark-vitals.yaml")); err != nil {
		return fmt.Errorf("writing the manifest for krew: %w", err)
	}
	files, err := filesOf(folder)
	if err != nil {
		return err
	}
	files = append(files, digested{"image", image.Hex})
	if err := writeProvenance(version, registry, from, built[0].info.GoVersion, files, filepath.Join(folder, "provenance.intoto.json")); err != nil {
		return fmt.Errorf("writing the provenance: %w", err)
	}
	if err := writeChecksums(folder); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s\nimage@%s\n", folder, image)
	return nil
}

// writePrograms packs the programs, and lists what is linked into each.
func writePrograms(root, version, folder string, built []binary, date time.Time) (archives []archive, err error) {
	licence, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	for _, b := range built {
		name := fmt.Sprintf("spark-vitals_%s_%s_%s", version, b.os, b.arch)
		if err := writeSBOM(b, version, filepath.Join(folder, name+".cdx.json")); err != nil {
			return nil, fmt.Errorf("listing what is linked in for %s: %w", b.platform, err)
		}
		name += map[bool]string{true: ".zip", false: ".tar.gz"}[b.os == "windows"]
		if err := writeArchive(b, licence, date, filepath.Join(folder, name)); err != nil {
			return nil, fmt.Errorf("packing for %s: %w", b.platform, err)
		}
		digest, err := digestOf(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive{b.os, b.arch, name, digest, filepath.Base(b.file)})
	}
	return archives, nil
}

// ofImage returns the programs that the image is made of.
func ofImage(built []binary) (some []binary) {
	for _, b := range built {
		if slices.Contains(inImage, b.platform) {
			some = append(some, b)
		}
	}
	return some
}

// writeChecksums writes the digests of all files, as "sha256sum -c" reads them.
func writeChecksums(folder string) error {
	files, err := filesOf(folder)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range files {
		fmt.Fprintf(&text, "%s  %s\n", f.digest, f.name)
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(text.String()), 0o644)
}

// filesOf returns the files of a folder by name, without those of its folders.
func filesOf(folder string) (files []digested, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		digest, err := digestOf(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, digested{e.Name(), digest})
	}
	return files, nil
}

func digestOf(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
